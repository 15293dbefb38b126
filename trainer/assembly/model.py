"""The model of a run."""

import torch
from torch import nn

from models.build import build_model, constructor_arguments
from models.half_norms import norms_in_half
from models.weights.description import ModelDescription
from trainer.engine.deepspeed_config import check_trainable
from trainer.input_spec import evaluation_input, take_input
from trainer.process.world import World
from trainer.recipe import Recipe
from trainer.yaml_config import ConfigError


def checked_model(recipe: Recipe, classes: int, world: World) -> nn.Module:
    """The model of `recipe` as it starts, of at least `classes`, the data's; equal on all ranks.

    Raises:
        ConfigError: a model that the recipe, the data or the device does not go with.
    """
    config = recipe.model
    if config.num_classes is not None and config.num_classes < classes:
        raise ConfigError(
            f"model.num_classes: {config.num_classes} is less than the {classes} classes in"
            f" {recipe.data.root}; leave it out to take the data's"
        )
    torch.manual_seed(recipe.run.seed)  # every rank starts from the same weights
    model = model_of(recipe, config.num_classes or classes)
    check_trainable(model, recipe, world.device)
    return model


def model_of(recipe: Recipe, num_classes: int) -> nn.Module:
    """The model of `recipe` as it is trained, on whatever data and device.

    Raises:
        ValueError: if there is no such model, or it cannot do what is asked.
    """
    config = recipe.model
    model = build_model(
        config.name,
        num_classes=num_classes,
        img_size=config.img_size,
        drop_path_rate=config.drop_path_rate,
        grad_checkpointing=config.grad_checkpointing,
        arguments=config.args,
    )
    if recipe.precision.dtype == "bf16":
        norms_in_half(model)
    take_input(model, recipe)
    return model


def describe(recipe: Recipe, model: nn.Module, classes: tuple[str, ...]) -> ModelDescription:
    """What a checkpoint says of `model`."""
    config = recipe.model
    arguments = constructor_arguments(
        config.name, img_size=config.img_size, drop_path_rate=config.drop_path_rate
    )
    return ModelDescription(
        name=config.name,
        arguments={**arguments, **config.args},
        classes=classes,
        input=evaluation_input(model, recipe),
    )
