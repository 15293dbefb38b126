"""Run on ranks by test_waits.py: where a step would wait for the device; print JSON.

Each argument is an optimizer and a ZeRO stage, such as `adamw:0`.
"""

import json
import sys

import torch
import torch.distributed as dist

from benchmarks.engine.memory_run import Case, InMemory, trainer_of
from tests.support.host_waits import HostWaits, accelerator_behind_the_back
from trainer.engine.process_group import init_process_group
from trainer.process.world import bootstrap

STEPS, LOG_EVERY = 9, 3
CASE = Case(
    model="dynamixer_nano",
    size=32,
    per_rank=4,
    accumulation=2,
    arguments={"drop_path_rate": 0.1, "depths": (1, 1)},
)


def check(name: str, stage: int) -> dict[str, object]:
    """The waits between log events, from the second one on, and how many there are at events."""
    waits = HostWaits()
    between: list[str] = []
    at_events: list[int] = []
    with accelerator_behind_the_back(waits):
        loader = InMemory(CASE, steps=STEPS, mark=waits.mark)
        recipe = CASE.recipe(stage, optimizer=name, log_every=LOG_EVERY)
        trainer, engine = trainer_of(CASE, recipe, loader)
        waits.mark(*engine.module.parameters(), *engine.module.buffers())
        log = trainer._log_step

        def count() -> None:
            between.extend(waits.seen if at_events else [])  # the first steps set up
            waits.seen.clear()
            log()
            at_events.append(len(waits.seen))
            waits.seen.clear()

        trainer._log_step = count
        with waits.watching():
            trainer._train_epoch()
    return {"between": between, "at_events": at_events}


def main() -> None:
    bootstrap()
    init_process_group()
    torch.set_num_threads(1)
    results = {}
    for argument in sys.argv[1:]:
        name, stage = argument.split(":")
        results[argument] = check(name, int(stage))
    if dist.get_rank() == 0:
        sys.stdout.write(f"RESULT {json.dumps(results)}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
