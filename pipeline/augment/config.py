"""Configuration of training augmentation: frozen, and each section validates itself.

Errors are plain `ValueError`s without a path; `trainer.yaml_config` puts the section in front.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.augment.policies.policy import Policy, parse_policy
from pipeline.config import refuse_idle

_SIZE_STEP = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolutionConfig:
    """Training images that grow during the run, as ffcv-imagenet's; epochs count from 0."""

    min_res: int
    """Height and width up to epoch `start_ramp`."""
    max_res: int
    """Height and width from epoch `end_ramp` on."""
    start_ramp: int
    end_ramp: int

    def __post_init__(self) -> None:
        low, high = self.min_res, self.max_res
        if not 0 < low <= high or low % _SIZE_STEP or high % _SIZE_STEP:
            raise ValueError(
                f"min_res and max_res must be multiples of {_SIZE_STEP} with 0 < min_res <="
                f" max_res, got {low} and {high}"
            )
        if not 0 <= self.start_ramp < self.end_ramp:
            raise ValueError(
                "start_ramp and end_ramp must be epochs with 0 <= start_ramp < end_ramp, got"
                f" {self.start_ramp} and {self.end_ramp}"
            )

    def size_at(self, epoch: int) -> int:
        """Return height and width in `epoch`: between the ramps, the nearest multiple of 32."""
        ramp, sizes = (self.start_ramp, self.end_ramp), (self.min_res, self.max_res)
        return round(float(np.interp(epoch, ramp, sizes)) / _SIZE_STEP) * _SIZE_STEP


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """What is done to training images after their crop. A probability or alpha of 0 is off.

    The order is timm's: policy, colour jitter, grayscale, blur; then, on the whole batch, erasing
    and mixing.
    """

    auto_augment: str = ""
    """A policy in timm's language, such as `rand-m9-mstd0.5-inc1`, `3a`, `original`, `augmix-m5`,
    or `tv-n2-m12` for torchvision's RandAugment; see `pipeline.augment.policies.policy`."""
    color_jitter: float | tuple[float, float, float] | tuple[float, float, float, float] = 0.0
    """Strength of brightness, contrast and saturation, or one for each, and of hue if there is a
    fourth. As in timm, only `3a`, its sets in `rand-...-t3a`, and `tv` leave it on beside a
    policy; with another one it is refused here unless forced."""
    color_jitter_prob: float = 1.0
    """Probability that an image is jittered."""
    force_color_jitter: bool = False
    """Jitter beside any policy."""
    grayscale: float = 0.0
    """Probability that an image loses its colours."""
    gaussian_blur: float = 0.0
    """Probability that an image is blurred, with a deviation of 0.1 to 2 pixels."""
    erase: float = 0.0
    """Probability that random boxes of an image are erased (Zhong et al. 2017)."""
    erase_mode: Literal["pixel", "rand", "const"] = "pixel"
    """With noise for each pixel, one random colour for each box, or the mean colour."""
    erase_min_count: int = 1
    """Fewest boxes of an image, which share the erased area out."""
    erase_max_count: int = 1
    """Most boxes."""
    mixup: float = 0.0
    """Alpha of the Beta distribution of the mixing weight (Zhang et al. 2018)."""
    cutmix: float = 0.0
    """Alpha of the Beta distribution of the pasted share (Yun et al. 2019)."""
    mix_prob: float = 1.0
    """Probability that a pair, a batch or an image (see `mix_mode`) is mixed."""
    switch: float = 0.5
    """Probability of cutmix where both are on."""
    mix_mode: Literal["pair", "batch", "elem"] = "pair"
    """`pair` mixes neighbours in the global order, the same on any number of ranks; `elem` draws
    for each of the two by itself. `batch` draws one weight for each micro-batch and mixes it with
    its reverse, as timm does by default."""
    correct_lam: bool = True
    """Where the border cuts a pasted box, the weight follows the area that is left."""
    mix_off_epoch: int = 0
    """The first epoch, counted from 0, that is not mixed any more; 0: all are mixed."""
    smoothing: float = 0.0
    """Label smoothing: the share of the target spread over all classes."""
    repeats: int = 1
    """Draws of one image in a global batch (Hoffer et al. 2020); an epoch has as many draws as
    there are images, so it shows one image in `repeats` (as DeiT counts)."""
    resolution: ResolutionConfig | None = None
    """Sizes of training images over the epochs; none: the model's input size."""

    def __post_init__(self) -> None:
        for name in (
            *("erase", "switch", "mix_prob"),
            *("color_jitter_prob", "grayscale", "gaussian_blur"),
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability, got {getattr(self, name)}")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name} must be >= 0 (alpha of a Beta distribution; 0 turns it off),"
                    f" got {getattr(self, name)}"
                )
        try:
            policy = self.policy
        except ValueError as error:
            raise ValueError(f"auto_augment {error}") from None
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {self.smoothing}")
        if self.mix_off_epoch < 0:
            raise ValueError(f"mix_off_epoch must be >= 0 (0: never), got {self.mix_off_epoch}")
        if self.repeats < 1:
            raise ValueError(f"repeats must be >= 1 (1: every image once), got {self.repeats}")
        if not 1 <= self.erase_min_count <= self.erase_max_count:
            raise ValueError(
                "erase_min_count and erase_max_count must satisfy 1 <= min <= max, got"
                f" {self.erase_min_count} and {self.erase_max_count}"
            )
        self._check_jitter(policy)
        self._refuse_idle()

    @property
    def policy(self) -> Policy | None:
        """The parsed `auto_augment`."""
        return parse_policy(self.auto_augment) if self.auto_augment else None

    @property
    def jitter_strengths(self) -> tuple[float, float, float, float]:
        """Of brightness, contrast, saturation and hue."""
        if isinstance(self.color_jitter, (int, float)):
            return self.color_jitter, self.color_jitter, self.color_jitter, 0.0
        brightness, contrast, saturation, *hue = self.color_jitter
        return brightness, contrast, saturation, hue[0] if hue else 0.0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed in any epoch."""
        return self.mixup > 0 or self.cutmix > 0

    def size_at(self, epoch: int, default: int) -> int:
        """Return height and width of training images in `epoch`."""
        return default if self.resolution is None else self.resolution.size_at(epoch)

    def _check_jitter(self, policy: Policy | None) -> None:
        strengths = self.jitter_strengths
        if min(strengths) < 0 or strengths[3] > 0.5:
            raise ValueError(
                "color_jitter must be >= 0, and at most 0.5 for the hue (half a turn), got"
                f" {self.color_jitter}"
            )
        jitters = any(strengths)
        keeps = policy is None or policy.keeps_color_jitter
        if jitters and not keeps and not self.force_color_jitter:
            raise ValueError(
                f"color_jitter {self.color_jitter} has no effect beside auto_augment"
                f" {self.auto_augment!r}, as in timm; leave it out, or set force_color_jitter"
            )
        if self.force_color_jitter and (not jitters or keeps):
            raise ValueError(
                "force_color_jitter has no effect without color_jitter and an auto_augment that"
                " turns it off; leave it out"
            )
        refuse_idle(self, ("color_jitter_prob",), where=jitters, needs="color_jitter")

    def _refuse_idle(self) -> None:
        erasing = ("erase_mode", "erase_min_count", "erase_max_count")
        refuse_idle(self, erasing, where=self.erase > 0, needs="erase")
        mixing = ("mix_prob", "mix_off_epoch")
        refuse_idle(self, mixing, where=self.mixes, needs="mixup or cutmix")
        refuse_idle(self, ("correct_lam",), where=self.cutmix > 0, needs="cutmix")
