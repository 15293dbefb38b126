"""What the pipeline has to make of images, for a given model."""

from torch import nn

from models.build import InputConfig, input_config
from pipeline.config import InputSpec
from trainer.yaml_config import ConfigError


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
