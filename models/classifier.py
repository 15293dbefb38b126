"""What timm expects of every image classifier, around whatever makes the features.

A family subclasses `Classifier`, builds its trunk, calls `add_head` last (so that the head's draws
come after the trunk's) and implements `forward_features`.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Classifier(nn.Module):
    """Pooling, dropout and a linear layer named `head`, with timm's interface to them.

    Attributes:
        output_fmt: layout of `forward_features`, "NHWC" or "NCHW".
        num_features: its channels.
    """

    output_fmt = "NHWC"

    def __init__(self, *, in_chans: int, num_classes: int, global_pool: str) -> None:
        super().__init__()
        if in_chans < 1 or num_classes < 0:
            raise ValueError(
                f"in_chans must be at least 1 and num_classes at least 0 (0: no classifier), "
                f"got {in_chans} and {num_classes}"
            )
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.global_pool = _checked_pool(global_pool)
        self.grad_checkpointing = False

    def add_head(self, num_features: int, drop_rate: float) -> None:
        """Put the classifier on `num_features` channels, with dropout before it."""
        self.num_features = self.head_hidden_size = num_features
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._make_head()

    def _make_head(self) -> nn.Module:
        if self.num_classes == 0:
            return nn.Identity()
        head = nn.Linear(self.num_features, self.num_classes)
        self.init_head(head)
        return head

    def init_head(self, head: nn.Linear) -> None:
        """Initialise a fresh classifier; torch's own initialisation unless a family says more."""

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> features in the layout of `output_fmt`."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> (B, num_classes), or the (B, num_features) that the classifier sees."""
        if self.global_pool == "avg":
            x = x.mean(dim=(1, 2) if self.output_fmt == "NHWC" else (2, 3))
        elif self.output_fmt == "NCHW":
            x = x.permute(0, 2, 3, 1)  # the head acts on each token
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        return self.forward_head(self.forward_features(images))

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        """`block(x)`; with gradient checkpointing its activations are recomputed in backward."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier on; `num_classes` 0 removes it."""
        if global_pool is not None:
            self.global_pool = _checked_pool(global_pool)
        self.num_classes = num_classes
        reference = next(self.parameters())
        self.head = self._make_head().to(device=reference.device, dtype=reference.dtype)
        self.head.train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Parameters with two or more dimensions that take no decay: none."""
        return set()


def _checked_pool(global_pool: str) -> str:
    if global_pool not in ("avg", ""):
        raise ValueError(f"global_pool: expected 'avg' or '' (no pooling), got {global_pool!r}")
    return global_pool
