"""What the pipeline has to make of images, for a given model."""

from torch import nn

from models.build import input_config
from pipeline.config import DataConfig, InputSpec
from trainer.yaml_config import ConfigError


def input_spec(model: nn.Module, data: DataConfig) -> InputSpec:
    """Return the input that `model` was built for, with what `data` says otherwise.

    Raises:
        ConfigError: if it is not square.
    """
    config = input_config(model)
    height, width = config.size
    if height != width:
        raise ConfigError(f"model.name: takes {height}x{width} images; only square ones are made")
    return InputSpec(
        size=height,
        mean=data.mean or config.mean,
        std=data.std or config.std,
        crop_pct=data.crop_pct or config.crop_pct,
        interpolation=data.eval_interpolation
        or ("bilinear" if config.interpolation == "bilinear" else "bicubic"),
    )
