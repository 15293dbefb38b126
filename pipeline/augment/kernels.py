"""The drawn operations as the few kernels that an engine needs: a code, six numbers and a filter.

What timm knows under 27 names are lookup tables, blends, one affine map and blurs. An engine (the
native one, DALI's graph) implements these kernels and nothing of a policy.
"""

import math
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.policies.operations import POSTERIZE, Operation, OperationDraws


class Kernel(IntEnum):
    """What engines implement. The numbers are the interface of the native one: they stay."""

    NOTHING = 0
    AUTO_CONTRAST = 1
    EQUALIZE = 2
    INVERT = 3
    POSTERIZE = 4
    """Bits kept, 0 to 7."""
    SOLARIZE = 5
    """Values from this one on are inverted."""
    SOLARIZE_ADD = 6
    """Is added to values below 128."""
    BRIGHTNESS = 7
    """Factor; likewise with the next three."""
    CONTRAST = 8
    COLOR = 9
    SHARPNESS = 10
    AFFINE = 11
    """Six coefficients that lead from a pixel of the result to its source, as PIL's transform."""
    GRAYSCALE = 12
    GAUSSIAN_BLUR = 13
    """Radius of PIL's filter of boxes."""
    HUE = 14
    """Turn in [-0.5, 0.5]."""
    GAUSSIAN_BLUR_23 = 15
    """Standard deviation of a Gaussian kernel of 23 x 23, borders reflected."""


class KernelCalls(NamedTuple):
    """What an engine does to B images, in turn.

    Attributes:
        codes: (B, K) uint8 codes of `Kernel`.
        args: (B, K, 6) float64; 0 where a kernel takes fewer numbers.
        filters: (B, K) uint8 codes of `Filter`, for AFFINE.
    """

    codes: NDArray[np.uint8]
    args: NDArray[np.float64]
    filters: NDArray[np.uint8]


_AFFINE = {
    Operation.ShearX: (1.0, np.nan, 0.0, 0.0, 1.0, 0.0),
    Operation.ShearY: (1.0, 0.0, 0.0, np.nan, 1.0, 0.0),
    Operation.TranslateX: (1.0, 0.0, np.nan, 0.0, 1.0, 0.0),
    Operation.TranslateY: (1.0, 0.0, 0.0, 0.0, 1.0, np.nan),
    Operation.TranslateXRel: (1.0, 0.0, np.nan, 0.0, 1.0, 0.0),
    Operation.TranslateYRel: (1.0, 0.0, 0.0, 0.0, 1.0, np.nan),
}
"""Coefficients of the maps; NaN is where the argument goes."""
_RELATIVE = (Operation.TranslateXRel, Operation.TranslateYRel)
_KERNELS = {
    Operation.NONE: Kernel.NOTHING,
    Operation.AutoContrast: Kernel.AUTO_CONTRAST,
    Operation.Equalize: Kernel.EQUALIZE,
    Operation.Invert: Kernel.INVERT,
    Operation.Rotate: Kernel.AFFINE,
    **dict.fromkeys(POSTERIZE, Kernel.POSTERIZE),
    Operation.Solarize: Kernel.SOLARIZE,
    Operation.SolarizeIncreasing: Kernel.SOLARIZE,
    Operation.SolarizeAdd: Kernel.SOLARIZE_ADD,
    Operation.Color: Kernel.COLOR,
    Operation.ColorIncreasing: Kernel.COLOR,
    Operation.Contrast: Kernel.CONTRAST,
    Operation.ContrastIncreasing: Kernel.CONTRAST,
    Operation.Brightness: Kernel.BRIGHTNESS,
    Operation.BrightnessIncreasing: Kernel.BRIGHTNESS,
    Operation.Sharpness: Kernel.SHARPNESS,
    Operation.SharpnessIncreasing: Kernel.SHARPNESS,
    **dict.fromkeys(_AFFINE, Kernel.AFFINE),
    Operation.Desaturate: Kernel.COLOR,
    Operation.GaussianBlur: Kernel.GAUSSIAN_BLUR,
    Operation.GaussianBlurRand: Kernel.GAUSSIAN_BLUR,
    Operation.Hue: Kernel.HUE,
    Operation.GaussianBlur23: Kernel.GAUSSIAN_BLUR_23,
}
_CODES = np.array([_KERNELS[operation] for operation in Operation], np.uint8)
"""Kernel of each operation."""


def kernels_of(operations: Iterable[Operation]) -> frozenset[Kernel]:
    """Return the kernels of these operations, beside NOTHING.

    `Desaturate` is COLOR here, of which GRAYSCALE is the case with factor 0.
    """
    return frozenset(_KERNELS[operation] for operation in operations) - {Kernel.NOTHING}


def kernel_calls(draws: OperationDraws, size: int) -> KernelCalls:
    """Return the kernels that do what was drawn, for `size` x `size` images."""
    codes = _CODES[draws.operations]
    args = np.zeros((*codes.shape, 6))
    args[..., 0] = np.nan_to_num(draws.args)
    bits = args[..., 0]
    posterized = codes == Kernel.POSTERIZE
    codes[posterized & (bits >= 8)] = Kernel.NOTHING
    bits[posterized] = np.maximum(bits[posterized], 0)

    faded = draws.operations == Operation.Desaturate
    args[faded, 0] = np.clip(1.0 - args[faded, 0], 0.0, 1.0)
    codes[faded & (args[..., 0] == 0)] = Kernel.GRAYSCALE
    for position in zip(*np.nonzero(codes == Kernel.AFFINE), strict=True):
        operation = Operation(draws.operations[position])
        args[position] = _coefficients(operation, float(draws.args[position]), size)
    return KernelCalls(codes, args, draws.filters)


def _coefficients(operation: Operation, arg: float, size: int) -> tuple[float, ...]:
    """Return what timm's operation, or PIL for it, hands to `Image.transform`."""
    if operation == Operation.Rotate:
        return _rotation(arg, size)
    if operation in _RELATIVE:
        arg = arg * size
    return tuple(arg if math.isnan(value) else value for value in _AFFINE[operation])


def _rotation(degrees: float, size: int) -> tuple[float, ...]:
    """Return PIL's coefficients of a rotation about the centre, rounded as there."""
    angle = -math.radians(degrees % 360.0)
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
    centre = size / 2
    across = cosine * -centre + sine * -centre + centre
    down = -sine * -centre + cosine * -centre + centre
    return cosine, sine, across, -sine, cosine, down
