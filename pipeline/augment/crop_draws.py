"""Which part of an image becomes the model's input, mirrored or not, and with which filter.

Each draw is a pure function of (seed, epoch, sample), computed here in NumPy for a whole batch at
once and handed to whatever makes the pixels. Neither the batch that a sample is in nor the number
of threads or ranks plays a part, so that any sample of any epoch can be replayed by itself.

Boxes are int64 rows (top, left, height, width), as torchvision orders them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.boxes import TRIES, first_box, sides
from pipeline.augment.variates import between, integers
from pipeline.config import CropConfig
from pipeline.counter import DrawKey, Stream, uniforms


class Crops(NamedTuple):
    """Where the pixels of B training images come from.

    Attributes:
        boxes: (B, 4) parts of the stored images that are resized to the input's size.
        flips: (B,) mirrored left to right.
        bicubic: (B,) resized with the bicubic rather than the linear filter.
        vertical_flips: (B,) mirrored top to bottom.
        shifts: (B, 2) after resizing and mirroring, pixel (y, x) is taken from (y, x) + shift, and
            is black where that lies outside; 0 but for `mode: pad`.
    """

    boxes: NDArray[np.int64]
    flips: NDArray[np.bool_]
    bicubic: NDArray[np.bool_]
    vertical_flips: NDArray[np.bool_]
    shifts: NDArray[np.int64]

    def rows(self, rows: slice) -> "Crops":
        """Return the crops of some of the images."""
        return Crops(
            self.boxes[rows],
            self.flips[rows],
            self.bicubic[rows],
            self.vertical_flips[rows],
            self.shifts[rows],
        )


def crops(
    config: CropConfig,
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    widths: NDArray[np.int64],
    heights: NDArray[np.int64],
) -> Crops:
    """Return all draws of crops, for stored images of the given sizes."""
    key: DrawKey = {"seed": seed, "epoch": epoch, "samples": samples}
    if config.mode == "rrc":
        boxes = crop_boxes(config, **key, widths=widths, heights=heights)
    else:
        corner = np.zeros_like(heights)
        boxes = np.stack([corner, corner, heights, widths], axis=1)
    mirrored, upside_down = flips(config, **key), vertical_flips(config, **key)
    shifts = padded_shifts(config, **key)
    shifts = np.where(np.stack([upside_down, mirrored], axis=1), -shifts, shifts)
    return Crops(boxes, mirrored, bicubic(config, **key), upside_down, shifts)


def crop_boxes(
    config: CropConfig,
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    widths: NDArray[np.int64],
    heights: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return (N, 4) boxes of the random resized crop within images of the given sizes.

    The algorithm is torchvision's and timm's: the first of ten draws of area and aspect ratio that
    fits into the image, placed at random; failing that, the largest centre crop of allowed ratio.
    """
    u = uniforms(Stream.CROP, seed=seed, epoch=epoch, samples=samples, count=4 * TRIES)
    u = u.reshape(-1, TRIES, 4)
    area = between(config.scale, u[..., 0]) * (widths * heights)[:, None]
    low, high = config.ratio
    ratio = np.exp(between((float(np.log(low)), float(np.log(high))), u[..., 1]))
    width, height = sides(area, ratio)
    fits = (width > 0) & (width <= widths[:, None]) & (height > 0) & (height <= heights[:, None])
    boxes, found = first_box(fits, (height, width), u[..., 2:], (heights, widths))
    return np.where(found[:, None], boxes, _centre_boxes(config.ratio, widths, heights))


def flips(
    config: CropConfig, *, seed: int, epoch: int, samples: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return (N,) whether each image is mirrored."""
    u = uniforms(Stream.FLIP, seed=seed, epoch=epoch, samples=samples, count=1)
    return u[:, 0] < config.hflip


def vertical_flips(
    config: CropConfig, *, seed: int, epoch: int, samples: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return (N,) whether each image is mirrored top to bottom."""
    if config.vflip == 0:
        return np.zeros(len(samples), np.bool_)
    u = uniforms(Stream.VERTICAL_FLIP, seed=seed, epoch=epoch, samples=samples, count=1)
    return u[:, 0] < config.vflip


def bicubic(
    config: CropConfig, *, seed: int, epoch: int, samples: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return (N,) whether each crop is resized with the bicubic rather than the linear filter."""
    if config.interpolation != "random":
        return np.full(len(samples), config.interpolation == "bicubic")
    u = uniforms(Stream.INTERPOLATION, seed=seed, epoch=epoch, samples=samples, count=1)
    return u[:, 0] < 0.5


def padded_shifts(
    config: CropConfig, *, seed: int, epoch: int, samples: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (N, 2) offsets (down, right) of crops within images padded by black pixels.

    As torchvision's RandomCrop(size, padding), which draws them uniformly in +-padding.
    """
    if config.mode != "pad":
        return np.zeros((len(samples), 2), np.int64)
    u = uniforms(Stream.PADDED_CROP, seed=seed, epoch=epoch, samples=samples, count=2)
    return integers(u, 2 * config.padding + 1) - config.padding


def _centre_boxes(
    limits: tuple[float, float], widths: NDArray[np.int64], heights: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the largest centred boxes whose width / height is within the limits."""
    ratio = widths / heights
    height = np.where(ratio < limits[0], np.rint(widths / limits[0]).astype(np.int64), heights)
    width = np.where(ratio > limits[1], np.rint(heights * limits[1]).astype(np.int64), widths)
    width, height = np.maximum(width, 1), np.maximum(height, 1)
    return np.stack([(heights - height) // 2, (widths - width) // 2, height, width], axis=1)
