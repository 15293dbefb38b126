from collections.abc import Sequence
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

def decode_crops(
    pool: Pool,
    data: Sequence[NDArray[np.uint8] | bytes],
    sizes: NDArray[np.int32],
    anchor: NDArray[np.int32],
    shape: NDArray[np.int32],
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    bicubic: NDArray[np.bool_],
    out: NDArray[np.uint8],
) -> list[tuple[int, str, str]]:
    """Decode a part of each JPEG, and resample a region of it, on the pool's threads.

    An image is that of `PIL.Image.open(...).convert("RGB").crop(part).resize(..., box=region)`,
    with the filters and the order of passes of Pillow 13, to the bit if Pillow's libjpeg-turbo and
    this one decode alike (2.1.5 and 3.2.0 do); whatever the number of threads. Pairs are (vertical,
    horizontal).

    Args:
        pool: Whose threads do it, with the interpreter's lock released.
        data: B encoded images, each contiguous; read-only views of mapped files are read in place.
        sizes: (B, 2) the sizes that the images are listed with, and must have.
        anchor: (B, 2) the corner of the part.
        shape: (B, 2) its size; the part lies within the image.
        start: (B, 2) where the region begins, in pixels of the part.
        end: (B, 2) where it ends; before `start` if the image is to be mirrored.
        bicubic: (B,) the filter is bicubic rather than bilinear.
        out: (B, H, W, 3) RGB in C order, to be filled.

    Returns:
        The positions that failed, ascending, each with what and why; their places in `out` are as
        they were. "unsupported": no JPEG, or one that is left to PIL: CMYK, 12 bits, arithmetic
        coding, lossless, a progressive one that lacks scans. "damaged": libjpeg fails or only warns
        about what it had to read, the size is not the listed one, or the data are cut off. Damage
        below the part that cuts nothing off is not seen.

    Raises:
        ValueError: arguments of different lengths, or a part or region that is empty or not within
            what it is part of.
        TypeError: an argument is of another type, number of dimensions or memory order.
        RuntimeError: the pool is closed, or is another process's.
    """

def use_portable_kernels(is_portable: bool) -> None:
    """For tests: leave the processor's AVX2 unused by resampling, in all threads, or use it."""

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
