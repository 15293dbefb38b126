"""A small recipe, for tests of what stands around it."""

from trainer.optim import OptimConfig
from trainer.recipe import BatchConfig, ModelConfig, Recipe
from trainer.schedule import ScheduleConfig


def recipe(**optim: float) -> Recipe:
    return Recipe(
        model=ModelConfig(name="dynamixer_nano"),
        batch=BatchConfig(global_size=8, per_gpu=8),
        optim=OptimConfig(**{"lr": 1e-3, **optim}),
        schedule=ScheduleConfig(epochs=1),
    )
