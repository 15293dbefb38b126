"""Run on ranks by test_resume.py: runs one after the other; what they leave are run folders.

Arguments: the recipe's file, and the runs as JSON, each a list of overrides of the recipe. Beside a
run's files, each rank leaves `batches.N.jsonl`: what the objective was given at each micro-batch.
"""

import json
import os
import sys
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


def main() -> None:
    recipe_file, runs = Path(sys.argv[1]), json.loads(sys.argv[2])
    bootstrap()
    device = init_process_group()
    assembly_objective.build_objective = watching(assembly_objective.build_objective)
    for overrides in runs:
        recipe = yaml_config.load(Recipe, recipe_file, overrides)
        train(recipe, current(device), StopSignal(()), lambda _: os._exit(1))
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
