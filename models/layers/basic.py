"""Layers that the mixer families share: patch embedding, MLP, stochastic depth, reweighting.

Inside a mixer, activations are (B, H, W, C) and contiguous; the convolutions at the stem and
between stages see the same memory as a channels-last image. Attribute names follow the authors'
checkpoints.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.arguments import check_rate


class PatchEmbed(nn.Module):
    """A convolution from images to tokens: the stem, and the layer between two stages.

    Its stride is its kernel, `patch_size`, unless one is given: then patches overlap.
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        patch_size: int,
        *,
        stride: int | None = None,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        stride = patch_size if stride is None else stride
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride, padding, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, dim), contiguous; a remainder is cut off."""
        conv = self.proj
        return embed(
            images, conv.weight, conv.bias, stride=conv.stride[0], padding=int(conv.padding[0])
        )


def embed(
    images: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, padding: int
) -> Tensor:
    """(B, in_chans, height, width) convolved, as (B, H, W, dim), contiguous."""
    # Free for channels-last images, one copy for contiguous ones; never again after it.
    x = F.conv2d(images, weight, stride=stride, padding=padding).permute(0, 2, 3, 1)
    # The result is a tensor of its own, the permuted convolution would be a view: torch.compile
    # would make one graph for the block that comes first and another for its equals.
    if bias is None:
        return x.clone(memory_format=torch.contiguous_format)
    # Under autocast, the residual stream that begins here has the type of the products, as with the
    # authors, whose convolution adds the bias itself: float32 would be 5 % more bytes of a step.
    return x.contiguous() + bias.to(x.dtype)


class NormedPatchEmbed(PatchEmbed):
    """Patches, then a norm of (B, H, W, dim)."""

    def __init__(
        self,
        in_chans: int,
        dim: int,
        patch_size: int,
        norm: nn.Module,
        *,
        stride: int | None = None,
        padding: int = 0,
    ) -> None:
        super().__init__(in_chans, dim, patch_size, stride=stride, padding=padding)
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, dim)."""
        return self.norm(super().forward(images))


class Downsample(PatchEmbed):
    """The same convolution applied to (B, H, W, C)."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, dim)."""
        return super().forward(images.permute(0, 3, 1, 2))


class ChannelMlp(nn.Module):
    """Linear, exact GELU, Linear on the last dimension."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim if out_dim is None else out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., out_dim)."""
        return self.fc2(F.gelu(self.fc1(x)))


DRAWS = 1 << 24
"""How many numbers in [0, 1) a random float32 takes."""


class DropPath(nn.Module):
    """Stochastic depth: a sample's residual branch is dropped or divided by 1 - drop_prob.

    Which samples are dropped is drawn from torch's generator, or from what was dealt, see
    `models.dealt_paths`.

    Args:
        drop_prob: probability in [0, 1].
        scale_by_keep: whether what is kept is divided by 1 - drop_prob.
    """

    kept_draws: Tensor
    dealt: Tensor | None

    def __init__(self, drop_prob: float, *, scale_by_keep: bool = True) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.scale_by_keep = scale_by_keep
        # (calls in a forward pass, B) whole numbers below `DRAWS`.
        self.register_buffer("dealt", None, persistent=False)
        self.turn = 0  # the next call
        # A tensor, because torch.compile specialises on Python floats: one graph per block
        # instead of one per kind of block, and past eight of them it falls back to eager. Whole
        # numbers, because a model in half precision would round a probability by a third.
        self.register_buffer("kept_draws", torch.empty((), dtype=torch.int32), persistent=False)
        self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        """Restore what `to_empty` leaves undefined; see timm's `reinit_non_persistent_buffers`."""
        self.kept_draws.fill_(round((1 - self.drop_prob) * DRAWS))

    def forward(self, x: Tensor) -> Tensor:
        """Any (B, ...) -> the same shape; the identity in evaluation."""
        if not self.training:
            return x
        keep_prob = self.kept_draws.float() / DRAWS
        kept = self._kept(x, keep_prob)
        scales = kept / keep_prob if self.scale_by_keep else kept
        return x * scales.to(x.dtype).view(-1, *[1] * (x.ndim - 1))

    def _kept(self, x: Tensor, keep_prob: Tensor) -> Tensor:
        """(B,) bool."""
        if self.dealt is None:
            return torch.rand(x.shape[0], device=x.device) < keep_prob
        if len(self.dealt) == 1:  # no state, which a checkpointed region cannot compile
            return self.dealt[0] < self.kept_draws
        draws = self.dealt[self.turn]
        # Back at 0 after the last call, so that what is recomputed in backward draws the same.
        self.turn = (self.turn + 1) % len(self.dealt)
        return draws < self.kept_draws

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"drop_prob={self.drop_prob:.3f}"


def drop_paths(drop_prob: float | None, count: int) -> list[nn.Module]:
    """One for each of `count` branches of a block; the identity where `drop_prob` is None."""
    make = nn.Identity if drop_prob is None else lambda: DropPath(drop_prob)
    return [make() for _ in range(count)]


class Reweight(nn.Module):
    """Split attention over branches: per image and channel, weights of the branches that sum to 1.

    With m the mean of the branches' sum over all tokens: t = fc2(GELU(fc1(m))), and t[Q k + q] is
    the logit of branch q for channel k (Vision Permutator, https://arxiv.org/abs/2106.12368).

    Args:
        dim: channels C.
        num_branches: branches Q.
        bias: whether the two layers have one.
        branch_major: t[C q + k] is the logit instead.
    """

    def __init__(
        self, dim: int, num_branches: int, *, bias: bool = True, branch_major: bool = False
    ) -> None:
        super().__init__()
        if dim < 4:
            raise ValueError(f"dims: reweighting needs a width of at least 4, got {dim}")
        self.num_branches = num_branches
        self.branch_major = branch_major
        self.fc1 = nn.Linear(dim, dim // 4, bias=bias)
        self.fc2 = nn.Linear(dim // 4, dim * num_branches, bias=bias)

    def forward(self, mean: Tensor) -> Tensor:
        """(B, C) mean over tokens of the branches' sum -> (num_branches, B, C) weights."""
        logits = self.fc2(F.gelu(self.fc1(mean)))
        if self.branch_major:
            logits = logits.unflatten(1, (self.num_branches, -1)).transpose(0, 1)
        else:
            logits = logits.unflatten(1, (-1, self.num_branches)).permute(2, 0, 1)
        return softmax(logits, dim=0)

    def combine(self, branches: Sequence[Tensor]) -> Tensor:
        """The sum of the branches, each (B, H, W, C), with these weights."""
        means = [branch.mean(dim=(1, 2)) for branch in branches]
        return weighted_sum(branches, self(sum(means[1:], start=means[0])))


def softmax(logits: Tensor, dim: int) -> Tensor:
    """Softmax computed in at least float32, returned in the logits' dtype, under autocast too.

    torch's kernels sum in float32 whatever the type. A float32 result, which autocast asks for,
    would be rounded by the product behind it, and be kept for the backward pass at twice the size.
    """
    kind = logits.device.type
    if logits.is_meta or not torch.is_autocast_enabled(kind):
        return F.softmax(logits, dim)
    with torch.autocast(kind, enabled=False):
        return F.softmax(logits, dim)


def weighted_sum(branches: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Sum over q of weights[q] * branches[q].

    Args:
        branches: Q tensors (B, H, W, C).
        weights: (Q, B, C).
    """
    scales = weights[:, :, None, None, :].unbind(0)
    total = branches[0] * scales[0]
    for branch, scale in zip(branches[1:], scales[1:], strict=True):
        total = torch.addcmul(total, branch, scale)  # one pass instead of two
    return total


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Drop probability per block, rising linearly from 0 to `rate` over the whole depth.

    Raises:
        ValueError: if `rate` is not in [0, 1).
    """
    check_rate("drop_path_rate", rate)
    return [rate * block / max(depth - 1, 1) for block in range(depth)]


def init_linear(module: nn.Module) -> None:
    """Linear layers: truncated normal with std 0.02, zero bias. Everything else keeps torch's own.

    The cut is at +-2, an absolute value, so in effect the normal is not cut, as with the authors.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
