"""Run on ranks by test_process.py: what the ranks tell each other; print JSON."""

import json
import sys
import time

import torch
import torch.distributed as dist

from trainer.engine.process_group import init_process_group
from trainer.process.data_clock import DataClock
from trainer.process.signals import StopAgreement, StopSignal
from trainer.process.world import bootstrap, current, host_group, on_main


def stops() -> dict[str, object]:
    """Rank 1 alone is told to stop, before its third poll."""
    signal_ = StopSignal()
    agreement = StopAgreement(signal_, host_group())
    polls = []
    for poll in range(5):
        if dist.get_rank() == 1 and poll == 2:
            signal_.fail(OSError("full"))
        polls.append(agreement.poll())
    gathered: list[object] = [None, None]
    dist.all_gather_object(gathered, polls)
    return {"polls": gathered, "agreed": agreement.agree()}


def waits(device: torch.device) -> list[float]:
    """Rank 1 alone waits; the second reading has no waits in it."""
    clock = DataClock(device)
    with clock.waiting():
        began = time.perf_counter()
        while dist.get_rank() == 1 and time.perf_counter() < began + 0.05:
            pass
    return [*clock.take(), *clock.take()]


def main() -> None:
    bootstrap()
    device = init_process_group()
    world = current(device)
    results = {
        "host_backend": dist.get_backend(host_group()),
        "local_size": world.local_size,
        "on_main": on_main(lambda: "said by rank 0"),
        "stops": stops(),
        "waits": waits(device),
    }
    if dist.get_rank() == 0:
        sys.stdout.write(f"RESULT {json.dumps(results)}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
