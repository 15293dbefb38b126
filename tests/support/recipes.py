"""A small recipe, for tests of what stands around it."""

from trainer.optimization.optim import OptimConfig
from trainer.optimization.schedule import ScheduleConfig
from trainer.recipe import BatchConfig, ModelConfig, Recipe


def recipe(**optim: float) -> Recipe:
    return Recipe(
        model=ModelConfig(name="dynamixer_nano"),
        batch=BatchConfig(global_size=8, per_gpu=8),
        optim=OptimConfig(**{"lr": 1e-3, **optim}),
        schedule=ScheduleConfig(epochs=1),
    )
