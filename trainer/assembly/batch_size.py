"""How a global batch is divided among the ranks."""

from dataclasses import replace

from pipeline.formats.source import Source
from trainer.assembly.model import checked_model
from trainer.assembly.objective import watched_objective
from trainer.batch_plan import BatchPlan
from trainer.capacity.search import largest_per_gpu
from trainer.capacity.trial import Trial
from trainer.input_spec import input_spec
from trainer.objective import open_token_labels
from trainer.optimization.parameter_groups import freeze
from trainer.process.world import World
from trainer.recipe import Recipe
from trainer.yaml_config import ConfigError


def plan_batches(recipe: Recipe, world: World, images: int) -> BatchPlan:
    """The batches of the ranks of `world`, from `images` for training.

    Raises:
        ConfigError: a batch size that does not go with the ranks, the data or CUDA graphs.
    """
    size = recipe.batch.global_size
    if size > images:
        raise ConfigError(
            f"batch.global_size: {size} is more than the {images} training images in"
            f" {recipe.data.root}; use at most {images}"
        )
    try:
        plan = BatchPlan.solve(
            global_size=size,
            per_gpu=recipe.batch.known_per_gpu,
            world_size=world.world_size,
            even=recipe.augment.mixes,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    has_graphs = world.device.type == "cuda" and recipe.run.compile_mode != "default"
    if has_graphs and plan.accumulation > 1:
        raise ConfigError(
            f"run.compile_mode: {recipe.run.compile_mode} records CUDA graphs, in which a batch's"
            f" gradients overwrite those of the batch before, and batch.global_size {size} adds up"
            f" {plan.accumulation} batches of per_gpu {plan.per_gpu} x {plan.world_size} ranks; use"
            f" run.compile_mode default, or per_gpu {size // plan.world_size}"
        )
    return plan


def with_known_batch(
    recipe: Recipe, world: World, begun_with: Recipe | None, sources: tuple[Source, Source]
) -> tuple[Recipe, str]:
    """`recipe` with a number for `batch.per_gpu`, and, if it was found, how (collective).

    A run that goes on keeps that of the recipe that it was `begun_with`, where it fits.
    """
    if recipe.batch.per_gpu != "auto":
        return recipe, ""
    model = checked_model(recipe, len(sources[0].classes), world)
    freeze(model, recipe.model.freeze)
    labels = open_token_labels(recipe, sources[0])
    _, objective = watched_objective(recipe, model, world, sources, labels)
    schedule = recipe.augment.resolution
    size = max(input_spec(model).size, schedule.max_res if schedule else 0)
    found = largest_per_gpu(
        Trial(recipe, model.to(world.device), objective, size=size),
        world,
        global_size=recipe.batch.global_size,
        even=recipe.augment.mixes,
        kept=begun_with.batch.known_per_gpu if begun_with else None,
    )
    return replace(recipe, batch=replace(recipe.batch, per_gpu=found.per_gpu)), found.words
