"""The operations on one image that a policy can choose, by timm's names, and what each takes.

timm has several names for one change of pixels (`Posterize`, `PosterizeIncreasing`): they differ in
how a magnitude becomes the argument, which `levels` knows. Whatever the name, the argument is the
one that timm's function of this name takes, so `NAME_TO_OP[name](image, argument)` is the picture.
Two operations are torchvision's and have no name in timm: `Hue` and `GaussianBlur23`.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Operation(IntEnum):
    """One change of an image; the member's name is timm's. The numbers are kept in no file."""

    NONE = 0
    AutoContrast = 1
    Equalize = 2
    Invert = 3
    Rotate = 4
    """Degrees, counter-clockwise."""
    Posterize = 5
    """Bits kept of each value; 0 and less make the image black."""
    PosterizeIncreasing = 6
    PosterizeOriginal = 7
    Solarize = 8
    """Values from this one on are inverted."""
    SolarizeIncreasing = 9
    SolarizeAdd = 10
    """Is added to values below 128."""
    Color = 11
    """Factor: 0 is gray, 1 leaves the image as it is; likewise with the next ones."""
    ColorIncreasing = 12
    Contrast = 13
    ContrastIncreasing = 14
    Brightness = 15
    BrightnessIncreasing = 16
    Sharpness = 17
    SharpnessIncreasing = 18
    ShearX = 19
    """Columns that the content moves for each row."""
    ShearY = 20
    TranslateX = 21
    """Pixels."""
    TranslateY = 22
    TranslateXRel = 23
    """Share of the image's width."""
    TranslateYRel = 24
    Desaturate = 25
    """Share of the colour that goes; 1 is gray."""
    GaussianBlur = 26
    """Radius (standard deviation) in pixels, PIL's filter of boxes."""
    GaussianBlurRand = 27
    """Upper bound of the radius, as a share of 2 pixels. It never leaves the draws: they draw the
    radius too, and the operation becomes a `GaussianBlur`."""
    Hue = 28
    """Turn of the hue in [-0.5, 0.5], torchvision's `adjust_hue`."""
    GaussianBlur23 = 29
    """Standard deviation in pixels, torchvision's `gaussian_blur` with a kernel of 23 x 23."""


WITHOUT_ARGUMENT = frozenset(
    {Operation.NONE, Operation.AutoContrast, Operation.Equalize, Operation.Invert}
)
POSTERIZE = frozenset(
    {Operation.Posterize, Operation.PosterizeIncreasing, Operation.PosterizeOriginal}
)
RESAMPLING = frozenset(
    {
        Operation.Rotate,
        Operation.ShearX,
        Operation.ShearY,
        Operation.TranslateX,
        Operation.TranslateY,
        Operation.TranslateXRel,
        Operation.TranslateYRel,
    }
)
"""They take a filter as well, and a colour for what comes from outside the image."""
_WHOLE = POSTERIZE | {Operation.Solarize, Operation.SolarizeIncreasing, Operation.SolarizeAdd}


class Filter(IntEnum):
    """How a resampling operation interpolates."""

    NEAREST = 0
    BILINEAR = 1
    BICUBIC = 2


def argument_of(operation: Operation, arg: float) -> int | float | None:
    """Return what timm's function takes: an integer for bits and levels, None where nothing."""
    if operation in WITHOUT_ARGUMENT:
        return None
    return int(arg) if operation in _WHOLE and arg.is_integer() else arg


class OperationDraws(NamedTuple):
    """Operations of B images, one after the other.

    Attributes:
        operations: (B, K) uint8 codes of `Operation`; NONE where nothing is done.
        args: (B, K) float64 arguments, sign included; NaN where there is none.
        filters: (B, K) uint8 codes of `Filter`; 0 where nothing is resampled.
    """

    operations: NDArray[np.uint8]
    args: NDArray[np.float64]
    filters: NDArray[np.uint8]

    def rows(self, rows: slice) -> "OperationDraws":
        """Return the operations of some of the images."""
        return OperationDraws(self.operations[rows], self.args[rows], self.filters[rows])

    def where(self, applied: NDArray[np.bool_]) -> "OperationDraws":
        """Return these operations where `applied`, of a shape that fits, and none elsewhere."""
        return OperationDraws(
            np.where(applied, self.operations, np.uint8(Operation.NONE)),
            np.where(applied, self.args, np.nan),
            np.where(applied, self.filters, np.uint8(Filter.NEAREST)),
        )


def joined(parts: list[OperationDraws]) -> OperationDraws:
    """Return the operations of all parts, in turn."""
    operations, args, filters = (
        np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)
    )
    return OperationDraws(operations, args, filters)
