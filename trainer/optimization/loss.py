"""The training loss, and the options of distillation (`trainer.distillation`)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.config import refuse_idle

if TYPE_CHECKING:
    # Imported only where it is used: a recipe, which has these options, is checked in no time.
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """How logits are compared with targets, which mixing and smoothing have made soft."""

    name: Literal["ce", "bce"] = "ce"
    """Cross entropy, or binary cross entropy: each class a question of its own (Wightman et al.
    2021), averaged over classes."""
    bce_threshold: float | None = None
    """Classes whose share of the target is above it are right, all others wrong; 0 is the rule of
    DeiT III. None: shares are asked for as they are."""

    def __post_init__(self) -> None:
        refuse_idle(self, ("bce_threshold",), where=self.name == "bce", needs="name bce")
        if self.bce_threshold is not None and not 0 <= self.bce_threshold < 1:
            raise ValueError(f"bce_threshold must be in [0, 1), got {self.bce_threshold}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """A trained model that answers for each training image (Hinton et al. 2015; DeiT)."""

    teacher: str = ""
    """A name in timm's registry; empty: no distillation."""
    weights: str = ""
    """The teacher's: as `model.init_from`; empty: those of its name on this machine."""
    kind: Literal["soft", "hard"] = "soft"
    """`soft` compares distributions at `temperature`; `hard` takes the teacher's best class."""
    alpha: float = 0.5
    """Share of the teacher in the loss."""
    temperature: float = 1.0
    """Divides both models' logits; the soft term is multiplied by its square."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha must be in (0, 1], got {self.alpha}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {self.temperature}")
        if self.kind == "hard" and self.temperature != 1.0:
            raise ValueError("temperature has no effect with kind hard; leave it out")
        names = ("weights", "kind", "alpha", "temperature")
        refuse_idle(self, names, where=bool(self.teacher), needs="a teacher")


def training_loss(logits: "Tensor", targets: "Tensor", config: LossConfig) -> "Tensor":
    """The loss of one micro-batch.

    Args:
        logits: (B, K), any floating dtype.
        targets: (B, K) float32, rows summing to 1 (smoothed and mixed labels).
        config: which loss.

    Returns:
        A float32 scalar.
    """
    if config.name == "ce":
        return soft_target_cross_entropy(logits, targets)
    return binary_cross_entropy(logits, targets, threshold=config.bce_threshold)


def soft_target_cross_entropy(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Mean over the batch of -sum_k targets_k log softmax(logits)_k, in float32.

    Args:
        logits: (B, K), any floating dtype.
        targets: (B, K) float32, rows summing to 1 (smoothed and mixed labels).

    Returns:
        A float32 scalar.
    """
    return -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1).mean()


def binary_cross_entropy(
    logits: "Tensor", targets: "Tensor", *, threshold: float | None
) -> "Tensor":
    """Mean over batch and classes of -t log s(logit) - (1 - t) log s(-logit), s the sigmoid.

    t is the target, or whether it is above `threshold`. Shapes as in `training_loss`.
    """
    import torch.nn.functional as F

    if threshold is not None:
        targets = (targets > threshold).float()
    return F.binary_cross_entropy_with_logits(logits.float(), targets)
