"""What a run makes smaller, and what prepares batches for it."""

from torch import nn

from models.kernels import switch
from pipeline.augment.batches import BatchTransform
from pipeline.formats.source import Source
from pipeline.loaders.token_targets import TokenLabels
from trainer.distillation import build_criterion
from trainer.input_spec import input_spec
from trainer.job import Objective
from trainer.objective import build_objective
from trainer.process.world import World
from trainer.recipe import Recipe
from trainer.record.report.writer import Watched


def watched_objective(
    recipe: Recipe,
    model: nn.Module,
    world: World,
    sources: tuple[Source, Source],
    labels: TokenLabels | None,
) -> tuple[Watched, Objective]:
    """What is made smaller, and what prepares batches for it."""
    spec = input_spec(model)
    num_classes = recipe.model.num_classes or len(sources[0].classes)
    transform = Watched(
        BatchTransform(
            recipe.augment,
            spec=spec,
            num_classes=num_classes,
            seed=recipe.run.seed,
            fused=switch.ENABLED and world.device.type == "cuda",
        )
    )
    objective = build_objective(
        recipe,
        model,
        transform=transform,
        criterion=build_criterion(recipe, spec=spec, num_classes=num_classes, device=world.device),
        labels=labels,
        spec=spec,
        num_classes=num_classes,
    )
    return transform, objective
