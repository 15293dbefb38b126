"""What is done to the pixels of each image between its crop and the batch, as one chain.

timm's order: crop and flips come first, then the policy, colour jitter, grayscale and blur. Here is
which of these are on, and all their draws together.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.colour_draws import blur_draws, grayscale_draws, jitter_draws, jittered
from pipeline.augment.config import AugmentConfig
from pipeline.augment.policies.operations import Operation, OperationDraws, joined
from pipeline.augment.policies.policy import Policy
from pipeline.augment.policy_draws import Interpolation, MixedDraws, augmix_draws, policy_draws
from pipeline.config import CropConfig, InputSpec
from pipeline.counter import DrawKey

_BLACK = (0, 0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAugmentation:
    """The operations on single images; a probability or strength of 0 turns one off."""

    policy: Policy | None = None
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strengths of brightness, contrast, saturation and hue."""
    color_jitter_prob: float = 1.0
    grayscale: float = 0.0
    gaussian_blur: float = 0.0
    interpolation: Interpolation = "random"
    """Of resampling operations: that of the crop, as in timm."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Mean colour in [0, 1], which comes in from outside the image."""

    @property
    def is_on(self) -> bool:
        """Whether anything is ever done."""
        return bool(self.policy or any(self.color_jitter) or self.grayscale or self.gaussian_blur)

    @property
    def places(self) -> tuple[frozenset[Operation], ...]:
        """For each of the K places of the chain (see `ImageDraws`), what it can hold."""
        places: list[frozenset[Operation]] = []
        if self.policy is not None and self.policy.mixing is None:
            places += self.policy.places
        jitter = frozenset(jittered(self.color_jitter))
        places += [jitter] * len(jitter)
        if self.grayscale > 0:
            places.append(frozenset({Operation.Desaturate}))
        if self.gaussian_blur > 0:
            places.append(frozenset({Operation.GaussianBlur23}))
        return tuple(places)

    @property
    def fill(self) -> tuple[int, int, int]:
        """The colour from outside the image: timm's is the mean, torchvision's is black."""
        if self.policy is not None and self.policy.is_torchvision:
            return _BLACK
        red, green, blue = (min(255, round(255 * value)) for value in self.mean)
        return red, green, blue


class ImageDraws(NamedTuple):
    """The operations of B images.

    Attributes:
        mixed: AugMix, which comes before the chain; None where the policy is another one.
        chain: (B, K), done one after the other; K is 0 where there is nothing but AugMix.
    """

    mixed: MixedDraws | None
    chain: OperationDraws

    def rows(self, rows: slice) -> "ImageDraws":
        """Return the operations of some of the images."""
        mixed = self.mixed
        if mixed is not None:
            weights, shares = mixed.weights[rows], mixed.shares[rows]
            mixed = MixedDraws(mixed.chains.rows(rows), weights, shares, mixed.blended)
        return ImageDraws(mixed, self.chain.rows(rows))


def image_augmentation(
    config: AugmentConfig, crop: CropConfig, spec: InputSpec
) -> ImageAugmentation:
    """Return what the configuration does to single images."""
    return ImageAugmentation(
        policy=config.policy,
        color_jitter=config.jitter_strengths,
        color_jitter_prob=config.color_jitter_prob,
        grayscale=config.grayscale,
        gaussian_blur=config.gaussian_blur,
        interpolation=crop.interpolation,
        mean=spec.mean,
    )


def image_draws(
    augmentation: ImageAugmentation,
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    size: int,
) -> ImageDraws:
    """Return the operations of `size` x `size` images; each depends on (seed, epoch, sample)."""
    key: DrawKey = {"seed": seed, "epoch": epoch, "samples": samples}
    policy, mixed, parts = augmentation.policy, None, [_nothing(len(samples))]
    interpolation = augmentation.interpolation
    if policy is not None and policy.mixing is not None:
        mixed = augmix_draws(policy, **key, size=size, interpolation=interpolation)
    elif policy is not None:
        parts.append(policy_draws(policy, **key, size=size, interpolation=interpolation))
    if any(augmentation.color_jitter):
        probability = augmentation.color_jitter_prob
        parts.append(jitter_draws(augmentation.color_jitter, probability=probability, **key))
    if augmentation.grayscale > 0:
        parts.append(grayscale_draws(augmentation.grayscale, **key))
    if augmentation.gaussian_blur > 0:
        parts.append(blur_draws(augmentation.gaussian_blur, **key))
    return ImageDraws(mixed, joined(parts))


def _nothing(count: int) -> OperationDraws:
    empty = np.empty((count, 0))
    return OperationDraws(empty.astype(np.uint8), empty, empty.astype(np.uint8))
