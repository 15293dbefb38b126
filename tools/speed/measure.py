"""A recipe measured on this machine, in one process, set up as `launch.py` sets up a rank."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from models.build import build_model
from models.kernels import switch
from pipeline.formats.open import open_split
from tools.speed.stages import Bench, Measured, plan_of
from trainer.engine.engine import Engine
from trainer.engine.process_group import init_process_group
from trainer.input_spec import input_spec, take_input
from trainer.process.allocator import keep_freed_memory
from trainer.process.tf32 import allow_tf32
from trainer.process.world import bootstrap, current, share_cores
from trainer.recipe import Recipe


def measure(recipe: Recipe, seconds: float, begins: Callable[[str], None]) -> Measured:
    """Measure a recipe on this machine; `begins` is told what comes next.

    Raises:
        ValueError: if the recipe or the data cannot be used.
    """
    source = open_split(recipe.data, "train")
    num_classes = recipe.model.num_classes or len(source.classes)
    with _alone() as device:
        allow_tf32(recipe.precision.allow_tf32)
        switch.choose(recipe.run.kernels)
        model = build_model(
            recipe.model.name,
            num_classes=num_classes,
            img_size=recipe.model.img_size,
            drop_path_rate=recipe.model.drop_path_rate,
            grad_checkpointing=recipe.model.grad_checkpointing,
            arguments=recipe.model.args,
        )
        take_input(model, recipe)
        bench = Bench(
            recipe=recipe,
            source=source,
            spec=input_spec(model),
            num_classes=num_classes,
            device=device,
            seconds=seconds,
        )
        return bench.run(Engine(model, recipe, plan_of(recipe)), begins)


@contextmanager
def _alone() -> Iterator[torch.device]:
    """Make a process group of this process, which the engine needs."""
    before = dict(os.environ)
    bootstrap()
    try:
        device = init_process_group()
        share_cores(current(device))
        if device.type == "cpu":
            keep_freed_memory()
        yield device
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)
