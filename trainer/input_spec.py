"""What the pipeline has to make of images, for a given model."""

from dataclasses import replace
from typing import cast

from torch import nn

from models.build import InputConfig, TimmModel, check_classifies, input_config
from pipeline.config import CropMode, InputSpec
from trainer.recipe import Recipe
from trainer.yaml_config import ConfigError


def take_input(model: nn.Module, recipe: Recipe) -> None:
    """Say in the model's configuration what `recipe` says of its input, other than the variant's.

    Raises:
        ConfigError: if the model cannot take images of a size that they are going to have.
    """
    data, evaluation = recipe.data, recipe.evaluation
    said = {
        "mean": data.mean,
        "std": data.std,
        "crop_pct": evaluation.crop_pct or data.crop_pct,
        "crop_mode": evaluation.crop_mode,
        "interpolation": data.eval_interpolation,
    }
    config = cast("TimmModel", model).pretrained_cfg
    config.update({key: value for key, value in said.items() if value is not None})
    _check_sizes(model, recipe)


def input_spec(model: nn.Module) -> InputSpec:
    """Return the input that `model` was built for. Raises as `spec_of` does."""
    return spec_of(input_config(model))


def evaluation_input(model: nn.Module, recipe: Recipe) -> InputConfig:
    """Return the input of the model in evaluation, and in use."""
    config, size = input_config(model), recipe.evaluation.img_size
    return config if size is None else replace(config, size=(size, size))


def spec_of(config: InputConfig) -> InputSpec:
    """Return `config` as the pipeline takes it.

    Raises:
        ConfigError: if it is not square.
    """
    height, width = config.size
    if height != width:
        raise ConfigError(f"model.name: takes {height}x{width} images; only square ones are made")
    return InputSpec(
        size=height,
        mean=config.mean,
        std=config.std,
        crop_pct=config.crop_pct,
        interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
        crop_mode=_crop_mode(config.crop_mode),
    )


def _crop_mode(mode: str) -> CropMode:
    """Return timm's crop mode; it takes any other word for `center`."""
    return mode if mode in ("squash", "border") else "center"


def _check_sizes(model: nn.Module, recipe: Recipe) -> None:
    """Refuse sizes other than the model's own that it cannot take, before anything starts."""
    if (size := recipe.evaluation.img_size) is not None:
        _check_size(model, recipe, size, key="evaluation.img_size")
    if (schedule := recipe.augment.resolution) is not None:
        epochs = range(recipe.schedule.total_epochs)
        for size in sorted({schedule.size_at(epoch) for epoch in epochs}):
            _check_size(model, recipe, size, key="augment.resolution")


def _check_size(model: nn.Module, recipe: Recipe, size: int, *, key: str) -> None:
    try:
        check_classifies(model, size)
    except ValueError as error:
        raise ConfigError(
            f"{key}: {recipe.model.name} does not take images of {size}x{size} pixels ({error});"
            " leave it out and set model.img_size, or choose a model that takes any size"
        ) from None
