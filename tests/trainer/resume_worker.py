"""Run by test_resume.py: many short runs in few processes; what they leave are run folders.

The argument is a JSON file: for each world, how many ranks it has and its runs, each a list of
overrides of the recipe. The libraries are imported once; each world's ranks are forks. Beside a
run's files, each rank leaves `batches.N.jsonl`: what the objective was given at each micro-batch.
"""

import json
import os
import socket
import sys
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from pipeline.batch import Batch
from trainer import yaml_config
from trainer.assembly import objective as assembly_objective
from trainer.assembly.run import train
from trainer.engine.process_group import init_process_group
from trainer.job import Forward, Objective
from trainer.process.signals import StopSignal
from trainer.process.world import bootstrap, current
from trainer.recipe import Recipe
from trainer.record.meta import RunProgress


class Watched:
    """An objective that writes down its batches: step, samples, checksums of their pixels."""

    def __init__(self, objective: Objective, file: Path) -> None:
        self._objective = objective
        self._file = file

    def __call__(self, forward: Forward, batch: Batch, progress: RunProgress) -> Tensor:
        pixels = [zlib.crc32(image.contiguous().numpy().tobytes()) for image in batch.images]
        line = {"step": progress.step, "samples": batch.samples.tolist(), "pixels": pixels}
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return self._objective(forward, batch, progress)


def watching(build: Callable[..., Objective]) -> Callable[..., Objective]:
    def build_watched(recipe: Recipe, *arguments: Any, **keywords: Any) -> Objective:
        file = Path(recipe.run.root, recipe.run.name, f"batches.{dist.get_rank()}.jsonl")
        return Watched(build(recipe, *arguments, **keywords), file)

    return build_watched


def train_all(recipe_file: Path, runs: list[list[str]]) -> None:
    """The runs of this rank, one after the other."""
    bootstrap()
    device = init_process_group()
    assembly_objective.build_objective = watching(assembly_objective.build_objective)
    for overrides in runs:
        recipe = yaml_config.load(Recipe, recipe_file, overrides)
        train(recipe, current(device), StopSignal(()), lambda _: os._exit(1))
        dist.barrier()
    dist.destroy_process_group()


def in_forks(recipe_file: Path, ranks: int, runs: list[list[str]]) -> None:
    """A world of `ranks` processes; all have ended when it returns."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(ranks):
        if (child := os.fork()) == 0:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_SIZE=str(ranks))
            os.environ.update(WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            try:
                train_all(recipe_file, runs)
                os._exit(0)
            finally:  # a fork returns to nobody
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(f"world of {ranks} ranks: exit codes {codes}")


if __name__ == "__main__":
    plan = json.loads(Path(sys.argv[1]).read_text())
    for world in plan["worlds"]:
        in_forks(Path(plan["recipe"]), world["ranks"], world["runs"])
