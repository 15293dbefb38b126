from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

class Pool:
    """Threads that share out the images of a batch."""

    def __init__(self, threads: int) -> None:
        """Start that many (1 to 1024) threads."""

    @property
    def threads(self) -> int:
        """How many there are."""

    def close(self) -> None:
        """End the threads after the calls that have begun; later calls raise RuntimeError."""

class Operation(IntEnum):
    """What can be done to an image. `arg` is the first of a step's six numbers.

    AUTO_CONTRAST, EQUALIZE, INVERT: ImageOps'.
    POSTERIZE: ImageOps'; arg: bits to keep, 0 (black) to 8.
    SOLARIZE: ImageOps'; arg: the threshold.
    SOLARIZE_ADD: timm's; arg: what is added to values below 128, 0 to 255.
    BRIGHTNESS, CONTRAST, COLOR, SHARPNESS: ImageEnhance's; arg: the factor. timm's Desaturate is
        COLOR with the factor 1 - its argument.
    AFFINE: Image.transform(image.size, AFFINE, data, resample, fillcolor=fill) with the six numbers
        as data and the step's filter. Image.rotate does something else at multiples of 90 degrees.
    GRAYSCALE: the image in mode L, in three channels.
    GAUSSIAN_BLUR: ImageFilter's; arg: the radius, 0 to 100.
    HUE: torchvision's adjust_hue of a PIL image; arg: the factor, -0.5 to 0.5.
    """

    NOTHING = 0
    AUTO_CONTRAST = 1
    EQUALIZE = 2
    INVERT = 3
    POSTERIZE = 4
    SOLARIZE = 5
    SOLARIZE_ADD = 6
    BRIGHTNESS = 7
    CONTRAST = 8
    COLOR = 9
    SHARPNESS = 10
    AFFINE = 11
    GRAYSCALE = 12
    GAUSSIAN_BLUR = 13
    HUE = 14

def apply_operations(
    pool: Pool,
    images: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    args: NDArray[np.float64],
    filters: NDArray[np.uint8],
    fill: NDArray[np.uint8],
) -> None:
    """Apply the K steps of each image, in order and in place, on the pool's threads.

    The bytes are those of Pillow 13 on x86-64, whatever the number of threads.

    Args:
        pool: Whose threads do it, with the interpreter's lock released.
        images: (B, H, W, 3) RGB in C order; H and W are at most 16384.
        codes: (B, K) of Operation.
        args: (B, K, 6); numbers that an operation does not take are not read.
        filters: (B, K) for AFFINE: 0 nearest, 1 bilinear, 2 bicubic.
        fill: (3,) the colour of what AFFINE shows from outside the image.

    Raises:
        ValueError: an array, code, argument or filter is not as above; no image has changed.
    """

def use_portable_operations(is_portable: bool) -> None:
    """For tests: leave the processor's AVX2 unused by operations, in all threads, or use it."""
