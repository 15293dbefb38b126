"""The loss on labels of tokens, with MixToken (Jiang et al., NeurIPS 2021), and its options.

The class token, which saw a mixed image, is compared with a mixture of two maps' targets; each
token of the grid with that of its own place in its own image.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.augment.config import AugmentConfig
from pipeline.config import refuse_idle
from trainer.optimization.loss import DistillConfig, LossConfig, soft_target_cross_entropy

if TYPE_CHECKING:
    # Imported only where it is used: a recipe, which has these options, is checked in no time.
    from torch import Tensor

    from pipeline.augment.token_labels import TokenTargets

_SHARE_WHERE_RIGHT, _SHARE_WHERE_WRONG = 0.5, 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLabelsConfig:
    """Labels for each token of the grid, for models with a classifier of them (LV-ViT)."""

    file: str = ""
    """Of the training set's label maps, from tools/make_token_labels.py; empty: plain labels."""
    class_weight: float = 1.0
    """Of the class token's loss."""
    dense_weight: float = 1.0
    """Of the grid's tokens' mean loss; 0.5 in the paper, 1 in the authors' code and commands."""
    mix_token: bool = True
    """Exchange a box of the token grid with the reversed micro-batch; one box for each step."""
    ground_truth: bool = False
    """Blend the label into the class token's target: half of it where the map agrees, a tenth where
    not (the authors' `--ground-truth`)."""
    exchange_xy: bool = False
    """Cut maps as the authors' code does, which takes x for y and y for x."""

    def __post_init__(self) -> None:
        for name in ("class_weight", "dense_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if self.class_weight == self.dense_weight == 0:
            raise ValueError("class_weight and dense_weight are both 0: nothing is learnt")
        names = (
            *("class_weight", "dense_weight", "mix_token"),
            *("ground_truth", "exchange_xy"),
        )
        refuse_idle(self, names, where=bool(self.file), needs="a file")

    def check_beside(
        self, augment: AugmentConfig, loss: LossConfig, distill: DistillConfig
    ) -> None:
        """Refuse what has no counterpart in labels of tokens.

        Raises:
            ValueError: naming the key.
        """
        policy = augment.policy
        for is_on, what, reason in (
            (policy and policy.mixing, "augment.auto_augment augmix", "it is many pictures in one"),
            (augment.resolution, "augment.resolution", "the grid of tokens is one"),
            (loss.name != "ce", f"loss.name {loss.name}", "it is cross entropy"),
            (distill.teacher, "distill.teacher", "the annotator is the teacher"),
        ):
            if self.file and is_on:
                raise ValueError(
                    f"{what} does not go with token_labels.file ({reason}); leave one of them out"
                )

    @property
    def mixes(self) -> bool:
        """Whether what an image is mixed with depends on the micro-batch that it is in."""
        return bool(self.file) and self.mix_token


def token_label_loss(
    logits: "Tensor",
    tokens: "Tensor",
    targets: "TokenTargets",
    kept: float,
    config: TokenLabelsConfig,
) -> "Tensor":
    """class_weight CE(class token) + dense_weight CE(tokens, mean of all of them).

    Args:
        logits: (B, K) of the class token.
        tokens: (B, N, K) of the grid, each with the image that it came from.
        targets: as `pipeline.augment.token_labels` makes them.
        kept: share of the grid that is the image's own; the rest is the reversed batch's.
        config: weights and what the class token is told.

    Returns:
        A float32 scalar.
    """
    images = targets.images
    if config.ground_truth:
        images = _blended(images, targets.labels)
    if kept < 1:
        images = kept * images + (1 - kept) * images.flip(0)
    loss = config.class_weight * soft_target_cross_entropy(logits, images)
    return loss + config.dense_weight * soft_target_cross_entropy(tokens, targets.tokens)


def _blended(images: "Tensor", labels: "Tensor") -> "Tensor":
    """The code's rule; its comment says the opposite."""
    agrees = (images.argmax(dim=1) == labels.argmax(dim=1)).to(images.dtype)[:, None]
    share = agrees * _SHARE_WHERE_RIGHT + (1 - agrees) * _SHARE_WHERE_WRONG
    return share * images + (1 - share) * labels
