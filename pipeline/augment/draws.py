"""Which crop, flip, interpolation, erased box and mixing weight a sample gets.

Each is a pure function of (seed, epoch, sample), computed here in NumPy for a whole batch at once
and handed to whatever makes the pixels. Neither the batch that a sample is in nor the number of
threads or ranks plays a part, so that any sample of any epoch can be replayed by itself.

Boxes are int64 rows (top, left, height, width), as torchvision orders them. Draws of further
per-image operations (RandAugment) belong here too, each with a stream of its own.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config import AugmentConfig, CropConfig
from pipeline.counter import Stream, uniforms

_TRIES = 10
"""Attempts at a box that fits, as in torchvision and timm."""
_ERASE_AREA = (0.02, 1 / 3)
_ERASE_LOG_RATIO = (float(np.log(0.3)), float(np.log(1 / 0.3)))
_GAMMA_TRIES = 16
"""Each is accepted with probability > 0.95, so that all fail once in 10^20 draws."""
_GAMMA_DRAWS = 1 + 3 * _GAMMA_TRIES


class MixDraws(NamedTuple):
    """How images are mixed with their partners.

    Attributes:
        weights: (P,) float32 share of the own image in the target.
        boxes: (P, 4) int64 pasted from the partner; empty (zero) where images are blended.
        is_cutmix: (P,) bool, paste rather than blend.
    """

    weights: NDArray[np.float32]
    boxes: NDArray[np.int64]
    is_cutmix: NDArray[np.bool_]


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
    u = uniforms(Stream.CROP, seed=seed, epoch=epoch, samples=samples, count=4 * _TRIES)
    u = u.reshape(-1, _TRIES, 4)
    area = _between(config.scale, u[..., 0]) * (widths * heights)[:, None]
    low, high = config.ratio
    ratio = np.exp(_between((float(np.log(low)), float(np.log(high))), u[..., 1]))
    width, height = _rounded_sides(area, ratio)
    fits = (width > 0) & (width <= widths[:, None]) & (height > 0) & (height <= heights[:, None])

    first = _first(fits)
    width, height, u_top, u_left = width[first], height[first], u[..., 2][first], u[..., 3][first]
    top, left = _integers(u_top, heights - height + 1), _integers(u_left, widths - width + 1)
    boxes = np.stack([top, left, height, width], axis=1)
    return np.where(fits[first][:, None], boxes, _centre_boxes(config.ratio, widths, heights))


def flips(
    config: CropConfig, *, seed: int, epoch: int, samples: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return (N,) whether each image is mirrored."""
    u = uniforms(Stream.FLIP, seed=seed, epoch=epoch, samples=samples, count=1)
    return u[:, 0] < config.hflip


def bicubic(
    config: CropConfig, *, seed: int, epoch: int, samples: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return (N,) whether each crop is resized with the bicubic rather than the linear filter."""
    if config.interpolation != "random":
        return np.full(len(samples), config.interpolation == "bicubic")
    u = uniforms(Stream.INTERPOLATION, seed=seed, epoch=epoch, samples=samples, count=1)
    return u[:, 0] < 0.5


def erase_boxes(
    probability: float, *, seed: int, epoch: int, samples: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """Return (N, 4) boxes to erase from `size` x `size` images; zero where none.

    timm's rule: 2 % to a third of the image, aspect ratio 0.3 to 1/0.3, the first of ten draws
    that is smaller than the image.
    """
    u = uniforms(Stream.ERASE, seed=seed, epoch=epoch, samples=samples, count=1 + 4 * _TRIES)
    erased, u = u[:, 0] < probability, u[:, 1:].reshape(-1, _TRIES, 4)
    area = _between(_ERASE_AREA, u[..., 0]) * size**2
    height, width = _rounded_sides(area, np.exp(_between(_ERASE_LOG_RATIO, u[..., 1])))

    fits = (width < size) & (height < size)
    first = _first(fits)
    width, height, u_top, u_left = width[first], height[first], u[..., 2][first], u[..., 3][first]
    top, left = _integers(u_top, size - height + 1), _integers(u_left, size - width + 1)
    boxes = np.stack([top, left, height, width], axis=1)
    return np.where((erased & fits[first])[:, None], boxes, 0)


def noise_offsets(
    limit: int, *, seed: int, epoch: int, samples: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (N,) offsets in [0, limit): where each sample's noise starts in a bank of noise."""
    u = uniforms(Stream.NOISE, seed=seed, epoch=epoch, samples=samples, count=1)
    return _integers(u[:, 0], limit)


def mixes(
    config: AugmentConfig, *, seed: int, epoch: int, samples: NDArray[np.int64], size: int
) -> MixDraws:
    """Return the mixing of (P,) pairs or batches of `size` x `size` images.

    Args:
        config: at least one of `mixup` and `cutmix` is on.
        seed: of the run.
        epoch: counted from 0.
        samples: one sample that stands for each pair, or for the batch.
        size: height and width of the images.

    Returns:
        Weights drawn from Beta(alpha, alpha). For cutmix the box has the area 1 - weight around a
        uniform centre; where the border cuts it, the weight follows the remaining area.
    """
    u = uniforms(Stream.MIX, seed=seed, epoch=epoch, samples=samples, count=3 + 2 * _GAMMA_DRAWS)
    is_cutmix = u[:, 0] < _cutmix_share(config)
    alpha = np.where(is_cutmix, config.cutmix, config.mixup)
    weights = _beta(alpha, u[:, 3:])
    boxes = _cut_boxes(weights, u[:, 1:3], size)
    weights = np.where(is_cutmix, 1 - boxes[:, 2] * boxes[:, 3] / size**2, weights)
    boxes = np.where(is_cutmix[:, None], boxes, 0)
    return MixDraws(weights.astype(np.float32), boxes, is_cutmix)


def _cutmix_share(config: AugmentConfig) -> float:
    if config.mixup > 0 and config.cutmix > 0:
        return config.switch
    return float(config.cutmix > 0)


def _cut_boxes(
    weights: NDArray[np.float64], u: NDArray[np.float64], size: int
) -> NDArray[np.int64]:
    side = (size * np.sqrt(1 - weights)).astype(np.int64)
    centre = _integers(u, size)
    start = np.clip(centre - (side // 2)[:, None], 0, size)
    end = np.clip(centre + ((side + 1) // 2)[:, None], 0, size)
    return np.concatenate([start, end - start], axis=1)


def _beta(alpha: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return draws from Beta(alpha, alpha) as the share of one of two gamma variates.

    The logarithms of the variates are compared: for a small alpha both may underflow.
    """
    first = _log_gamma_variate(alpha, u[:, :_GAMMA_DRAWS])
    second = _log_gamma_variate(alpha, u[:, _GAMMA_DRAWS:])
    return 1 / (1 + np.exp(np.clip(second - first, -700, 700)))


def _log_gamma_variate(alpha: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of draws from Gamma(alpha, 1), from (P, _GAMMA_DRAWS) uniforms.

    Marsaglia and Tsang 2000 (https://doi.org/10.1145/358407.358414) for Gamma(alpha + 1), which
    works for every alpha, times U^(1 / alpha), which leads back to Gamma(alpha).
    """
    u = 1 - u  # (0, 1]: logarithms stay finite
    tries = u[:, 1:].reshape(-1, _GAMMA_TRIES, 3)
    normal = np.sqrt(-2 * np.log(tries[..., 0])) * np.cos(2 * np.pi * tries[..., 1])
    d = (alpha + 2 / 3)[:, None]
    root = 1 + normal / np.sqrt(9 * d)
    log_v = 3 * np.log(np.maximum(root, 1e-9))
    bound = 0.5 * normal**2 + d * (1 - np.exp(log_v) + log_v)
    first = _first((root > 0) & (np.log(tries[..., 2]) < bound))
    return np.log(d[:, 0]) + log_v[first] + np.log(u[:, 0]) / np.maximum(alpha, 1e-12)


def _between(limits: tuple[float, float], u: NDArray[np.float64]) -> NDArray[np.float64]:
    return limits[0] + (limits[1] - limits[0]) * u


def _integers(u: NDArray[np.float64], limit: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Turn uniforms into uniform integers of [0, limit)."""
    return (u * limit).astype(np.int64)


def _rounded_sides(
    area: NDArray[np.float64], ratio: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sides of a box of this area, the first `ratio` times the second; halves to even."""
    long, short = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    return long.astype(np.int64), short.astype(np.int64)


def _first(accepted: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the index of the first accepted try of each row (the first of all if none is)."""
    return np.arange(len(accepted)), accepted.argmax(axis=1)


def _centre_boxes(
    limits: tuple[float, float], widths: NDArray[np.int64], heights: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the largest centred boxes whose width / height is within the limits."""
    ratio = widths / heights
    height = np.where(ratio < limits[0], np.rint(widths / limits[0]).astype(np.int64), heights)
    width = np.where(ratio > limits[1], np.rint(heights * limits[1]).astype(np.int64), widths)
    width, height = np.maximum(width, 1), np.maximum(height, 1)
    return np.stack([(heights - height) // 2, (widths - width) // 2, height, width], axis=1)
