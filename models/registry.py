"""How a variant enters timm's registry: a configuration entry and a creation call."""

from collections.abc import Callable
from typing import cast

import timm
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg
from torch import nn

from models.layers.arguments import as_pair


def default_cfg(
    *,
    first_conv: str | None,
    input_size: tuple[int, int, int] = (3, 224, 224),
    num_classes: int = 1000,
    crop_pct: float = 0.9,
    mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN,
    std: tuple[float, float, float] = IMAGENET_DEFAULT_STD,
    interpolation: str = "bicubic",
    fixed_input_size: bool = True,
) -> dict[str, object]:
    """An entry of `default_cfgs`, timm's description of a model's input and head.

    `first_conv` names the stem's convolution, None if there is none;
    `fixed_input_size` says that the constructor takes `img_size` and the model that size only.
    """
    return {
        "url": "",
        "num_classes": num_classes,
        "input_size": input_size,
        "fixed_input_size": fixed_input_size,
        "crop_pct": crop_pct,
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
        "first_conv": first_conv,
        "classifier": "head",
    }


def create(
    model_class: Callable[..., nn.Module],
    variant: str,
    pretrained: bool,
    settings: dict[str, object],
    overrides: dict[str, object],
) -> nn.Module:
    """Build a registered variant as timm's entry points do.

    `settings` are the variant's constructor arguments, `overrides` what the caller of
    `timm.create_model` passed on; the latter win.
    """
    arguments = {**settings, **overrides}
    img_size, in_chans = arguments.get("img_size"), arguments.get("in_chans")
    if img_size is not None or in_chans is not None:
        # timm's resolve_model_data_config reads the input size here and nowhere else.
        config = timm.get_pretrained_cfg(variant)
        assert config is not None
        channels, *size = config.input_size
        size = size if img_size is None else as_pair(img_size)
        overlay = arguments.get("pretrained_cfg_overlay") or {}
        assert isinstance(overlay, dict)
        arguments["pretrained_cfg_overlay"] = {
            "input_size": (channels if in_chans is None else in_chans, *size),
            **overlay,
        }
    build = cast("Callable[..., nn.Module]", build_model_with_cfg)
    return build(model_class, variant, pretrained, **arguments)
