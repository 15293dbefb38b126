"""Which boxes of an image are erased, and with what: timm's RandomErasing (Zhong et al. 2017).

Draws are pure functions of (seed, epoch, sample), as those of crops.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.boxes import TRIES, first_box, sides
from pipeline.augment.config import AugmentConfig
from pipeline.augment.variates import between, integers, normal
from pipeline.counter import DrawKey, Stream, uniforms

_AREA = (0.02, 1 / 3)
"""Shares of the image; several boxes share them out."""
_LOG_RATIO = (float(np.log(0.3)), float(np.log(1 / 0.3)))


def erase_boxes(
    config: AugmentConfig, *, seed: int, epoch: int, samples: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """Return (N, M, 4) boxes to erase from `size` x `size` images, in turn; zero where none.

    timm's rule: 2 % to a third of the image shared out among the image's count of boxes, aspect
    ratio 0.3 to 1/0.3, the first of ten draws that is smaller than the image. M is
    `erase_max_count`.
    """
    key: DrawKey = {"seed": seed, "epoch": epoch, "samples": samples}
    # One box was all there was at first: its numbers stay where they were.
    u = uniforms(Stream.ERASE, **key, count=1 + 4 * TRIES)
    erased, u = u[:, 0] < config.erase, u[:, 1:]
    low, high = config.erase_min_count, config.erase_max_count
    if high > 1:
        more = uniforms(Stream.ERASE_MORE, **key, count=4 * TRIES * (high - 1))
        u = np.concatenate([u, more], axis=1)
    count = np.full(len(samples), low)
    if high > low:
        drawn = uniforms(Stream.ERASE_COUNT, **key, count=1)[:, 0]
        count = low + integers(drawn, high - low + 1)

    u = u.reshape(-1, TRIES, 4)
    area = between(_AREA, u[..., 0]) * size**2 / np.repeat(count, high)[:, None]
    tries = sides(area, np.exp(between(_LOG_RATIO, u[..., 1])))
    fits = (tries[0] < size) & (tries[1] < size)
    boxes, found = first_box(fits, tries, u[..., 2:], (size, size))
    wanted = erased[:, None] & (np.arange(high) < count[:, None])
    wanted &= found.reshape(-1, high)
    return np.where(wanted[..., None], boxes.reshape(-1, high, 4), 0)


def noise_offsets(
    limit: int, *, seed: int, epoch: int, samples: NDArray[np.int64], boxes: int = 1
) -> NDArray[np.int64]:
    """Return (N, boxes) offsets in [0, limit): where each box's noise starts in a bank of noise."""
    u = uniforms(Stream.NOISE, seed=seed, epoch=epoch, samples=samples, count=boxes)
    return integers(u, limit)


def erase_colors(
    *, seed: int, epoch: int, samples: NDArray[np.int64], boxes: int
) -> NDArray[np.float32]:
    """Return (N, boxes, 3) standard normal colours, for boxes that are erased with one colour."""
    u = uniforms(Stream.ERASE_COLOR, seed=seed, epoch=epoch, samples=samples, count=6 * boxes)
    return normal(u.reshape(-1, boxes, 3, 2)).astype(np.float32)
