"""Run under torchrun by `bench_engine`: seconds of steps, ours and by hand, turn by turn; JSON.

    torchrun --nproc-per-node 2 benchmarks/engine/step_times.py CASE ROUNDS STEPS

In a round every variant makes STEPS steps, and rounds turn the order, so that what else the machine
does hits all alike; ratios are taken within a round. All ranks of a variant start together. Two
clocks: the wall's, and the CPU time of the process, which other programs disturb little and which
does not see a rank that waits.
"""

import json
import sys
import time

import torch
import torch.distributed as dist

from benchmarks.engine.memory_run import Case, Step, our_step, plain_step
from trainer.engine.process_group import init_process_group
from trainer.process.allocator import keep_freed_memory
from trainer.process.world import bootstrap

CASES = {
    "dynamixer_nano": Case(model="dynamixer_nano", size=32, per_rank=32),
    "dynamixer_s": Case(model="dynamixer_s", size=224, per_rank=4),
    # Its 494 tensors, as narrow as they can be: what is left is the host's work.
    "dynamixer_s, narrow": Case(
        model="dynamixer_s",
        size=56,
        per_rank=2,
        arguments={"dims": (16, 32, 32, 32), "img_size": 56},
    ),
}
STAGES = (0, 1, 2, 3)
_WARMUP = 1


def main() -> None:
    """Measure a case."""
    name, rounds, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    bootstrap()
    init_process_group()
    keep_freed_memory()
    torch.set_num_threads(1)
    case = CASES[name]
    variants: dict[str, Step] = {"plain": plain_step(case)}
    variants |= {f"stage {stage}": our_step(case, stage) for stage in STAGES}
    for step in variants.values():
        for _ in range(_WARMUP):
            step()
    result = {
        "case": name,
        "ranks": dist.get_world_size(),
        "images_per_rank": case.per_rank,
        "tensors": len(list(case.build().parameters())),
        "parameters": sum(p.numel() for p in case.build().parameters()),
        "seconds": measure(variants, rounds, steps),
    }
    if dist.get_rank() == 0:
        sys.stdout.write(f"RESULT {json.dumps(result)}\n")
    dist.destroy_process_group()


def measure(
    variants: dict[str, Step], rounds: int, steps: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds of a step in each round, by clock and variant."""
    seconds = {clock: {name: [] for name in variants} for clock in ("wall", "cpu")}
    order = list(variants)
    for _ in range(rounds):
        for name in order:
            dist.barrier()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(steps):
                variants[name]()
            seconds["wall"][name].append((time.perf_counter() - wall) / steps)
            seconds["cpu"][name].append((time.process_time() - cpu) / steps)
        order = order[1:] + order[:1]
    return seconds


if __name__ == "__main__":
    main()
