"""A recipe measured on this machine, in one process, set up as `launch.py` sets up a rank."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from models.build import compile_in_place
from models.kernels import switch
from models.memory_layout import keep_layout
from pipeline.formats.open import open_split
from tools.speed.stages import Bench, Measured, plan_of
from trainer.assembly.model import model_of
from trainer.engine.engine import Engine
from trainer.engine.process_group import init_process_group
from trainer.input_spec import input_spec
from trainer.optimization.parameter_groups import freeze
from trainer.process.allocator import keep_freed_memory
from trainer.process.tf32 import allow_tf32
from trainer.process.world import bootstrap, current, share_cores
from trainer.recipe import Recipe
from trainer.tuning.tuned import with_tuned


def measure(recipe: Recipe, seconds: float, begins: Callable[[str], None]) -> Measured:
    """Measure a recipe on this machine; `begins` is told what comes next.

    Raises:
        ValueError: if the recipe or the data cannot be used.
    """
    source = open_split(recipe.data, "train")
    num_classes = recipe.model.num_classes or len(source.classes)
    with _alone() as device:
        allow_tf32(recipe.precision.allow_tf32)
        recipe, _ = with_tuned(recipe, device, None)
        switch.choose(recipe.run.kernels)
        model = model_of(recipe, num_classes)
        freeze(model, recipe.model.freeze)
        bench = Bench(
            recipe=recipe,
            source=source,
            spec=input_spec(model),
            num_classes=num_classes,
            device=device,
            seconds=seconds,
        )
        engine = Engine(model, recipe, plan_of(recipe))
        keep_layout(model, recipe.run.layout)
        if recipe.run.compile != "none":
            compile_in_place(
                model, blocks=recipe.run.compile == "blocks", mode=recipe.run.compile_mode
            )
        return bench.run(engine, begins)


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
