"""How images are mixed: mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019), by timm's rules.

Draws are pure functions of (seed, epoch, sample), the sample standing for a pair or a batch.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.config import AugmentConfig
from pipeline.augment.variates import GAMMA_DRAWS, beta, integers
from pipeline.counter import Stream, uniforms


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


def mixes(
    config: AugmentConfig, *, seed: int, epoch: int, samples: NDArray[np.int64], size: int
) -> MixDraws:
    """Return the mixing of (P,) images, pairs or batches of `size` x `size` images.

    Args:
        config: at least one of `mixup` and `cutmix` is on.
        seed: of the run.
        epoch: counted from 0.
        samples: the images, or one sample that stands for each pair, or for the batch.
        size: height and width of the images.

    Returns:
        Weights drawn from Beta(alpha, alpha); 1 for the share `1 - mix_prob` that is not mixed. For
        cutmix the box has the area 1 - weight around a uniform centre; where the border cuts it,
        the weight follows the remaining area, unless `correct_lam` is off.
    """
    count = 4 + 2 * GAMMA_DRAWS
    u = uniforms(Stream.MIX, seed=seed, epoch=epoch, samples=samples, count=count)
    is_mixed = u[:, -1] < config.mix_prob
    is_cutmix = (u[:, 0] < _cutmix_share(config)) & is_mixed
    alpha = np.where(is_cutmix, config.cutmix, config.mixup)
    weights = np.where(is_mixed, beta(alpha, u[:, 3:-1]), 1.0)
    boxes = _cut_boxes(weights, u[:, 1:3], size)
    boxes = np.where(is_cutmix[:, None], boxes, 0)
    if config.correct_lam:
        weights = np.where(is_cutmix, 1 - boxes[:, 2] * boxes[:, 3] / size**2, weights)
    return MixDraws(weights.astype(np.float32), boxes, is_cutmix)


def _cutmix_share(config: AugmentConfig) -> float:
    if config.mixup > 0 and config.cutmix > 0:
        return config.switch
    return float(config.cutmix > 0)


def _cut_boxes(
    weights: NDArray[np.float64], u: NDArray[np.float64], size: int
) -> NDArray[np.int64]:
    side = (size * np.sqrt(1 - weights)).astype(np.int64)
    centre = integers(u, size)
    start = np.clip(centre - (side // 2)[:, None], 0, size)
    end = np.clip(centre + ((side + 1) // 2)[:, None], 0, size)
    return np.concatenate([start, end - start], axis=1)
