"""How a magnitude becomes an operation's argument: timm's level functions, for whole arrays.

A magnitude of 10 is the full strength of timm's operations; torchvision counts in 31 steps. Each
line does the arithmetic of its model in the same order, so that the arguments are equal to the bit.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.policies.operations import Operation

FULL_LEVEL = 10.0
"""timm's magnitude of full strength, and its default upper bound."""
TORCHVISION_BINS = 31

_Floats = NDArray[np.float64]
_LevelFunction = Callable[[_Floats, NDArray[np.bool_], "TranslateRange"], _Floats]


class TranslateRange(NamedTuple):
    """How far images are moved at full strength: in pixels, and as a share of the side."""

    pixels: int
    share: float


def translate_range(size: int, share: float) -> TranslateRange:
    """Return timm's range for `size` x `size` images; in pixels it does not depend on `share`."""
    return TranslateRange(int(size * 0.45), share)


def arguments(
    operations: NDArray[np.uint8],
    magnitudes: _Floats,
    negative: NDArray[np.bool_],
    translate: TranslateRange,
) -> _Floats:
    """Return the arguments of timm's operations.

    Args:
        operations: codes of `Operation`, of any shape.
        magnitudes: of this shape, >= 0.
        negative: of this shape: the other direction, for operations that have two.
        translate: the range of translations.

    Returns:
        Of this shape; NaN for operations without an argument.
    """
    args = np.full(operations.shape, np.nan)
    for code in np.unique(operations).tolist():
        level = _LEVELS.get(Operation(code))
        if level is not None:
            here = operations == code
            args[here] = level(magnitudes[here] / FULL_LEVEL, negative[here], translate)
    return args


def _signed(values: _Floats, negative: NDArray[np.bool_]) -> _Floats:
    return np.where(negative, -values, values)


def _enhance(level: _Floats, _negative: NDArray[np.bool_], _: TranslateRange) -> _Floats:
    return level * 1.8 + 0.1


def _enhance_increasing(level: _Floats, negative: NDArray[np.bool_], _: TranslateRange) -> _Floats:
    return np.maximum(0.1, 1.0 + _signed(level * 0.9, negative))


def _solarize(level: _Floats, _negative: NDArray[np.bool_], _: TranslateRange) -> _Floats:
    return np.minimum(256.0, np.trunc(level * 256))


def _shear(level: _Floats, negative: NDArray[np.bool_], _: TranslateRange) -> _Floats:
    return _signed(level * 0.3, negative)


def _shift(level: _Floats, negative: NDArray[np.bool_], limit: TranslateRange) -> _Floats:
    return _signed(level * float(limit.pixels), negative)


def _shift_share(level: _Floats, negative: NDArray[np.bool_], limit: TranslateRange) -> _Floats:
    return _signed(level * limit.share, negative)


def _between(low: float, high: float) -> _LevelFunction:
    return lambda level, _negative, _: np.clip(low + (high - low) * level, low, high)


_LEVELS: dict[Operation, _LevelFunction] = {
    Operation.Rotate: lambda level, negative, _: _signed(level * 30.0, negative),
    Operation.Posterize: lambda level, _negative, _: np.trunc(level * 4),
    Operation.PosterizeIncreasing: lambda level, _negative, _: 4 - np.trunc(level * 4),
    Operation.PosterizeOriginal: lambda level, _negative, _: np.trunc(level * 4) + 4,
    Operation.Solarize: _solarize,
    Operation.SolarizeIncreasing: lambda *drawn: 256 - _solarize(*drawn),
    Operation.SolarizeAdd: lambda level, _negative, _: np.minimum(128.0, np.trunc(level * 110)),
    Operation.Color: _enhance,
    Operation.ColorIncreasing: _enhance_increasing,
    Operation.Contrast: _enhance,
    Operation.ContrastIncreasing: _enhance_increasing,
    Operation.Brightness: _enhance,
    Operation.BrightnessIncreasing: _enhance_increasing,
    Operation.Sharpness: _enhance,
    Operation.SharpnessIncreasing: _enhance_increasing,
    Operation.ShearX: _shear,
    Operation.ShearY: _shear,
    Operation.TranslateX: _shift,
    Operation.TranslateY: _shift,
    Operation.TranslateXRel: _shift_share,
    Operation.TranslateYRel: _shift_share,
    Operation.Desaturate: _between(0.5, 1.0),
    Operation.GaussianBlur: _between(0.1, 2.0),
    Operation.GaussianBlurRand: _between(0.0, 1.0),
}


def torchvision_argument(operation: Operation, magnitude: int, sign: int, size: int) -> float:
    """Return the argument of timm's operation that does what torchvision's RandAugment does.

    Args:
        operation: one that RandAugment of torchvision chooses from.
        magnitude: the step, in [0, 30].
        sign: 1 or -1; the operations without direction take it for nothing.
        size: height and width of the images.
    """
    name = operation.name
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        return 1.0 + sign * _step(0.0, 0.9, magnitude)
    if name in ("ShearX", "ShearY"):  # by way of an angle, as there
        angle = math.radians(math.degrees(math.atan(sign * _step(0.0, 0.3, magnitude))))
        return math.tan(angle) if name == "ShearX" else math.sin(angle) / math.cos(angle)
    if name in ("TranslateX", "TranslateY"):  # whole pixels, in the opposite direction to timm's
        return float(-int(sign * _step(0.0, 150.0 / 331.0 * size, magnitude)))
    if name == "Rotate":
        return sign * _step(0.0, 30.0, magnitude)
    if name == "Posterize":
        return float(8 - round(magnitude / ((TORCHVISION_BINS - 1) / 4)))
    return _step(255.0, 0.0, magnitude) if name == "Solarize" else math.nan


def _step(start: float, end: float, index: int) -> float:
    """Return one of 31 evenly spaced float32 numbers, counted from the nearer end as torch does.

    Like torch's, the multiplication and addition are rounded once.
    """
    first, last = np.float32(start), np.float32(end)
    step = float((last - first) / np.float32(TORCHVISION_BINS - 1))
    if index < TORCHVISION_BINS // 2:
        return float(np.float32(float(first) + step * index))
    return float(np.float32(float(last) - step * (TORCHVISION_BINS - 1 - index)))
