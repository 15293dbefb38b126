"""Random boxes by trial: what the random resized crop and random erasing have in common."""

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.variates import first_accepted, integers

TRIES = 10
"""Attempts at a box that fits, as in torchvision and timm."""


def sides(
    area: NDArray[np.float64], ratio: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sides of a box of this area, the first `ratio` times the second; halves to even."""
    long, short = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    return long.astype(np.int64), short.astype(np.int64)


def first_box(
    fits: NDArray[np.bool_],
    tries: tuple[NDArray[np.int64], NDArray[np.int64]],
    u: NDArray[np.float64],
    image: tuple[NDArray[np.int64] | int, NDArray[np.int64] | int],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the first box that fits, placed at random, and whether there is one.

    Args:
        fits: (N, TRIES).
        tries: heights and widths of the boxes, (N, TRIES) each.
        u: (N, TRIES, 2) uniforms for the place: top and left.
        image: height and width of the image, or (N,) of them.

    Returns:
        (N, 4) boxes, of no meaning where none fits, and (N,) whether one fits.
    """
    first = first_accepted(fits)
    height, width = tries[0][first], tries[1][first]
    top = integers(u[..., 0][first], image[0] - height + 1)
    left = integers(u[..., 1][first], image[1] - width + 1)
    return np.stack([top, left, height, width], axis=1), fits[first]
