"""Where a mixing matrix comes from: DynaMixer's operation and the two of its ablation.

Each operation mixes lines of L tokens with one L x L matrix per channel segment, then applies
`out`. `DynamicOp` generates the matrices from all tokens of the line (the paper's); `DenseOp` gets
each row from its target token alone and `RandomOp` learns them (both after Synthesizer,
https://arxiv.org/abs/2005.00743). Shapes: B batch, L tokens of a line, C channels, S segments.
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.arguments import check_counts
from models.layers.basic import softmax
from models.layers.resampling import PositionIndexed, announce, resample

Generator = Literal["dynamic", "random", "dense"]
REDUCED_DIM = 2
"""The paper's d for S and M."""


class MixingOp(PositionIndexed):
    """Mixes the segments of lines of `length` tokens; subclasses give the matrices' logits.

    `compress`, where an operation has one, is its first layer. It acts on each token by itself, so
    the caller computes it, in one product with the other layers that read the same tokens.
    """

    compress: nn.Linear | None

    def __init__(self, dim: int, length: int, segments: int) -> None:
        super().__init__()
        if segments < 1 or dim % segments != 0:
            raise ValueError(
                f"segments: {segments} does not divide the width {dim}; use a divisor, "
                f"such as {math.gcd(dim, max(segments, 1))}"
            )
        self.length = length
        self.segments = segments
        self.out = nn.Linear(dim, dim)

    def logits(self, compressed: Tensor | None) -> Tensor:
        """(B, lines, L, features of compress) -> (B, lines, S, L, L), [..., target, source]."""
        raise NotImplementedError

    def forward(self, x: Tensor, compressed: Tensor | None) -> Tensor:
        """Mix the tokens of each line; `out` is left to the caller.

        Args:
            x: (B, lines, L, C), any strides.
            compressed: (B, lines, L, ...), `compress` of x, or None where there is none.

        Returns:
            (B, lines, L, S, C/S), a view of memory ordered (B, lines, S, L, C/S).
        """
        segments = x.unflatten(-1, (self.segments, -1)).transpose(2, 3)  # (B, lines, S, L, C/S)
        return (softmax(self.logits(compressed), dim=-1) @ segments).transpose(2, 3)


class DynamicOp(MixingOp):
    """Matrices from the line's tokens: generate(flatten(compress(x))), per segment.

    `compress` reduces each token to S x d numbers, all of them from all C channels; the L x d
    numbers of a segment generate its L x L matrix. One `generate` serves all segments.
    """

    def __init__(self, dim: int, length: int, segments: int, reduced_dim: int) -> None:
        super().__init__(dim, length, segments)
        self.compress = nn.Linear(dim, segments * reduced_dim)
        self.generate = nn.Linear(length * reduced_dim, length * length)

    def logits(self, compressed: Tensor | None) -> Tensor:
        """(B, lines, L, S d) -> (B, lines, S, L, L), [..., target, source]."""
        assert compressed is not None
        L = self.length
        flat = compressed.unflatten(-1, (self.segments, -1)).transpose(2, 3).flatten(3)
        # Rows of `generate` are numbered source L + target. Reordered to target L + source, the
        # softmax runs over the last dimension and the product needs no transposed matrix.
        weight = self.generate.weight.unflatten(0, (L, L)).transpose(0, 1).flatten(0, 1)
        bias = self.generate.bias.reshape(L, L).t().flatten()
        return F.linear(flat, weight, bias).unflatten(-1, (L, L))

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """`generate` sums over its L x d inputs; its outputs are positions twice."""
        weight = state_dict.get(f"{prefix}generate.weight")
        bias = state_dict.get(f"{prefix}generate.bias")
        if weight is None or bias is None:
            return
        old, new = math.isqrt(bias.numel()), self.length
        if old in (0, new) or weight.shape != (old**2, old * (self.generate.in_features // new)):
            return
        weight = resample(weight.reshape(old, old, old, -1), (0, 1, 2), new) * (old / new)
        state_dict[f"{prefix}generate.weight"] = weight.reshape(new**2, -1)
        bias = resample(bias.reshape(old, old), (0, 1), new)
        state_dict[f"{prefix}generate.bias"] = bias.flatten()
        announce(prefix, old=old, new=new)


class RandomOp(MixingOp):
    """Matrices that are learned and the same for every image; one per segment."""

    def __init__(self, dim: int, length: int, segments: int) -> None:
        super().__init__(dim, length, segments)
        self.compress = None
        self.matrices = nn.Parameter(torch.empty(segments, length, length))
        nn.init.trunc_normal_(self.matrices, std=0.02)

    def logits(self, compressed: Tensor | None) -> Tensor:
        """(1, 1, S, L, L), [..., target, source]."""
        assert compressed is None
        return self.matrices[None, None]

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Both indices of a matrix are positions."""
        matrices = state_dict.get(f"{prefix}matrices")
        if matrices is None or matrices.ndim != 3 or matrices.shape[-1] == self.length:
            return
        state_dict[f"{prefix}matrices"] = resample(matrices, (1, 2), self.length)
        announce(prefix, old=matrices.shape[-1], new=self.length)


class DenseOp(MixingOp):
    """Each target's row from that token alone: generate(ReLU(compress(x)))."""

    def __init__(self, dim: int, length: int, segments: int) -> None:
        super().__init__(dim, length, segments)
        self.compress = nn.Linear(dim, dim)
        self.generate = nn.Linear(dim, segments * length)

    def logits(self, compressed: Tensor | None) -> Tensor:
        """(B, lines, L, C) -> (B, lines, S, L, L), [..., target, source]."""
        assert compressed is not None
        rows = self.generate(F.relu(compressed))
        return rows.unflatten(-1, (self.segments, self.length)).transpose(2, 3)

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """The sources are positions."""
        for name in ("generate.weight", "generate.bias"):
            stored = state_dict.get(f"{prefix}{name}")
            if stored is None or stored.shape[0] in (0, self.generate.out_features):
                continue
            if stored.shape[0] % self.segments != 0:
                continue
            per_source = stored.unflatten(0, (self.segments, -1))
            state_dict[f"{prefix}{name}"] = resample(per_source, (1,), self.length).flatten(0, 1)
            announce(prefix + name, old=per_source.shape[1], new=self.length)


def make_op(
    generator: Generator, dim: int, length: int, *, segments: int, reduced_dim: int | None
) -> MixingOp:
    """The operation on lines of `length` tokens of width `dim`.

    Raises:
        ValueError: if `generator` is unknown, `segments` does not divide `dim`, or `reduced_dim`
            is given and not used.
    """
    if generator == "dynamic":
        reduced_dim = REDUCED_DIM if reduced_dim is None else reduced_dim
        check_counts(reduced_dim=reduced_dim)
        return DynamicOp(dim, length, segments, reduced_dim)
    if reduced_dim is not None:
        raise ValueError(
            f"reduced_dim: only the dynamic generator has one, not {generator!r}; leave it out"
        )
    if generator == "random":
        return RandomOp(dim, length, segments)
    if generator == "dense":
        return DenseOp(dim, length, segments)
    raise ValueError(f"generator: expected one of {get_args(Generator)}, got {generator!r}")
