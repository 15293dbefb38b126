"""What the pipeline has to make of images, for a given model."""

from typing import cast

from torch import nn

from models.build import InputConfig, TimmModel, input_config
from pipeline.config import DataConfig, InputSpec
from trainer.yaml_config import ConfigError


def take_input(model: nn.Module, data: DataConfig) -> None:
    """Say in the model's configuration what `data` says of its input, other than the variant's."""
    said = {
        "mean": data.mean,
        "std": data.std,
        "crop_pct": data.crop_pct,
        "interpolation": data.eval_interpolation,
    }
    config = cast("TimmModel", model).pretrained_cfg
    config.update({key: value for key, value in said.items() if value is not None})


def input_spec(model: nn.Module) -> InputSpec:
    """Return the input that `model` was built for. Raises as `spec_of` does."""
    return spec_of(input_config(model))


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
    )
