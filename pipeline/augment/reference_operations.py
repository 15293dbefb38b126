"""The drawn operations as PIL does them: timm's and torchvision's own functions, called with ours.

This is the oracle of the other engines, and what the reference loader uses.
"""

from typing import cast

import numpy as np
import torchvision.transforms.functional as F
from PIL import Image
from PIL.Image import Resampling
from timm.data.auto_augment import NAME_TO_OP, AugMixAugment
from torch import Tensor

from pipeline.augment.image_draws import ImageDraws
from pipeline.augment.policies.operations import (
    POSTERIZE,
    RESAMPLING,
    Filter,
    Operation,
    OperationDraws,
    argument_of,
)
from pipeline.augment.policy_draws import MixedDraws

_RESAMPLING = {
    Filter.NEAREST: Resampling.NEAREST,
    Filter.BILINEAR: Resampling.BILINEAR,
    Filter.BICUBIC: Resampling.BICUBIC,
}
_BLUR_KERNEL = [23, 23]


def apply_draws(
    image: Image.Image, draws: ImageDraws, position: int, fill: tuple[int, int, int]
) -> Image.Image:
    """Return `image` after the operations at `position` of the batch's draws.

    Args:
        image: RGB.
        draws: of the batch.
        position: of the image in the batch.
        fill: the colour of what comes from outside the image.
    """
    if draws.mixed is not None:
        image = _apply_mixed(image, draws.mixed, position, fill)
    return _apply_chain(image, draws.chain, (position,), fill)


def apply_operation(
    image: Image.Image,
    operation: Operation,
    arg: float,
    resample: Filter,
    fill: tuple[int, int, int],
) -> Image.Image:
    """Return `image` after one operation; see `operations.Operation` for the argument."""
    argument = argument_of(operation, arg)
    if operation == Operation.Hue:
        return cast("Image.Image", F.adjust_hue(cast("Tensor", image), arg))
    if operation == Operation.GaussianBlur23:
        blurred = F.gaussian_blur(cast("Tensor", image), _BLUR_KERNEL, [arg, arg])
        return cast("Image.Image", blurred)
    if operation in POSTERIZE and arg < 1:  # Pillow 13 refuses; before, it was black
        return Image.new(image.mode, image.size)
    arguments = () if argument is None else (argument,)
    options = {"resample": _RESAMPLING[resample], "fillcolor": fill}
    return NAME_TO_OP[operation.name](
        image, *arguments, **(options if operation in RESAMPLING else {})
    )


def _apply_chain(
    image: Image.Image, drawn: OperationDraws, row: tuple[int, ...], fill: tuple[int, int, int]
) -> Image.Image:
    for code, arg, resample in zip(*(part[row] for part in drawn), strict=True):
        if code != Operation.NONE:
            image = apply_operation(image, Operation(code), float(arg), Filter(resample), fill)
    return image


def _apply_mixed(
    image: Image.Image, mixed: MixedDraws, position: int, fill: tuple[int, int, int]
) -> Image.Image:
    """Mix the chains as timm's AugMix does."""
    weights, share = mixed.weights[position], mixed.shares[position]
    chains = [
        _apply_chain(image, mixed.chains, (position, chain), fill) for chain in range(len(weights))
    ]
    if mixed.blended:
        blend = AugMixAugment(())._calc_blended_weights(weights, share)
        for chain, weight in zip(chains, blend, strict=True):
            image = Image.blend(image, chain, weight)
        return image
    total = np.zeros_like(image, dtype=np.float32)
    for chain, weight in zip(chains, weights, strict=True):
        total += weight * np.asarray(chain, dtype=np.float32)
    mixture = Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))
    return Image.blend(image, mixture, share)
