"""What timm expects of every image classifier, around whatever makes the features.

A family subclasses `Classifier`, builds its trunk, calls `add_head` last (so that the head's draws
come after the trunk's) and implements `forward_features`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.layers.arguments import Size, as_pair, check_counts, check_rate


class Classifier(nn.Module):
    """Pooling, dropout and a linear layer named `head`, with timm's interface to them.

    Attributes:
        output_fmt: layout of `forward_features`, "NHWC", "NCHW" or "NLC" (tokens).
        pools: what `global_pool` may be, its default first.
        num_features: channels of the features.
    """

    output_fmt = "NHWC"
    pools: tuple[str, ...] = ("avg", "")

    def __init__(self, *, in_chans: int, num_classes: int, global_pool: str) -> None:
        super().__init__()
        check_counts(in_chans=in_chans)
        self.in_chans = in_chans
        self.num_classes = _checked_classes(num_classes)
        self.global_pool = self._checked_pool(global_pool)
        self.grad_checkpointing = False

    def add_head(self, num_features: int, drop_rate: float) -> None:
        """Put the classifier on `num_features` channels, with dropout before it."""
        check_rate("drop_rate", drop_rate)
        self.num_features = self.head_hidden_size = num_features
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._make_head()

    def _checked_pool(self, global_pool: str) -> str:
        if global_pool not in self.pools:
            expected = f"expected {self.pools[0]!r} or '' (no pooling)"
            raise ValueError(f"global_pool: {expected}, got {global_pool!r}")
        return global_pool

    def _make_head(self) -> nn.Module:
        if self.num_classes == 0:
            return nn.Identity()
        head = nn.Linear(self.num_features, self.num_classes)
        self.init_head(head)
        return head

    def init_head(self, head: nn.Linear) -> None:
        """Initialise a fresh classifier; torch's own initialisation unless a family says more."""

    def check_size(self, height: int, width: int) -> None:
        """See that images of this size can be classified.

        Raises:
            ValueError: naming the size and the remedy.
        """
        raise NotImplementedError

    def check_images(self, images: Tensor) -> None:
        """See that a batch can be classified, before something in the middle fails.

        Raises:
            ValueError: naming the shape or the size, and the remedy.
        """
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            raise ValueError(
                f"expected images of shape (batch, {self.in_chans}, height, width), got "
                f"{tuple(images.shape)}; in_chans= is set when the model is created"
            )
        self.check_size(images.shape[2], images.shape[3])

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> features in the layout of `output_fmt`."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> (B, num_classes), or the (B, num_features) that the classifier sees."""
        if self.global_pool == "token":
            x = x[:, 0]
        elif self.global_pool == "avg":
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
        if not (self.grad_checkpointing and torch.is_grad_enabled()):
            return block(x)
        if torch.compiler.is_compiling():  # statistics are updated once in a graph
            return checkpoint(block, x, use_reentrant=False)
        contexts = partial(_contexts, block)
        return checkpoint(block, x, use_reentrant=False, context_fn=contexts)

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier on; `num_classes` 0 removes it."""
        if global_pool is not None:
            self.global_pool = self._checked_pool(global_pool)
        self.num_classes = _checked_classes(num_classes)
        reference = next(self.parameters())
        self.head = self._make_head().to(device=reference.device, dtype=reference.dtype)
        self.head.train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Parameters with two or more dimensions that take no decay: none."""
        return set()


class FixedSizeClassifier(Classifier):
    """A classifier of images of one size."""

    def __init__(
        self, *, img_size: Size, in_chans: int, num_classes: int, global_pool: str
    ) -> None:
        super().__init__(in_chans=in_chans, num_classes=num_classes, global_pool=global_pool)
        self.img_size = as_pair(img_size)

    def check_size(self, height: int, width: int) -> None:
        """See that it is the size that the model was built for."""
        if (height, width) != self.img_size:
            raise ValueError(
                f"the model was built for images of {self.img_size[0]}x{self.img_size[1]} pixels, "
                f"got {height}x{width}; create it with img_size=({height}, {width}), or resize the "
                "images"
            )


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a checkpointed block runs in: forward, and when it is recomputed."""
    return nullcontext(), _keeping_statistics(block)


@contextmanager
def _keeping_statistics(block: nn.Module) -> Iterator[None]:
    """Undo what recomputing does to BatchNorm's running statistics: they count a batch once."""
    norms = (m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    buffers = [buffer for norm in norms if norm.training for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.data.copy_(value)  # not counted as a change: autograd has saved the buffer


def _checked_classes(num_classes: int) -> int:
    if not isinstance(num_classes, int) or num_classes < 0:
        raise ValueError(
            f"num_classes: must be a whole number of at least 0 (0: no classifier), got "
            f"{num_classes!r}"
        )
    return num_classes
