"""Token mixers that attend: to the other tokens, or to memories that all images share.

Shapes: B images, N tokens, C channels, h heads of d channels (contiguous slices), S memory units.
Attribute names are those of the authors' checkpoints.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.arguments import check_counts, check_rate
from models.layers.basic import softmax

UNITS = 64
TOKEN_UNITS = 128
HEADS_FACTOR = 4
"""By how much external attention multiplies channels and heads."""
DIVISION_GUARD = 1e-9


class Attention(nn.Module):
    """Self-attention; queries, keys and values without bias."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        check_heads(num_heads, dim)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, C) -> the same shape."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0))  # (B, heads, tokens, C / heads)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class ExternalMemory(nn.Module):
    """Two memories in place of keys and values (Guo et al., https://arxiv.org/abs/2105.02358).

    A token's similarities to the S units are normalised twice: by a softmax over the tokens, then
    by their sum over the units. All heads share the memories, `linear_0` and `linear_1`.
    """

    def __init__(self, head_dim: int, units: int, *, bias: bool, drop_rate: float = 0.0) -> None:
        super().__init__()
        check_rate("token_drop_rate", drop_rate)
        self.linear_0 = nn.Linear(head_dim, units, bias=bias)
        self.linear_1 = nn.Linear(units, head_dim)
        self.attn_drop = nn.Dropout(drop_rate)

    def recall(self, x: Tensor) -> Tensor:
        """(B, N, ..., d) -> the same shape."""
        logits = self.linear_0(x)
        # One share of thousands of tokens is near float16's smallest number.
        similarity = softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 1)
        shares = similarity / (DIVISION_GUARD + similarity.sum(-1, keepdim=True))
        return self.linear_1(self.attn_drop(shares.to(logits.dtype)))


class ExternalAttention(ExternalMemory):
    """Attention to memories, at four times the width and with four times the heads."""

    def __init__(self, dim: int, num_heads: int) -> None:
        check_heads(num_heads, dim)
        super().__init__(dim // num_heads, UNITS, bias=True)
        self.trans_dims = nn.Linear(dim, HEADS_FACTOR * dim)
        self.proj = nn.Linear(HEADS_FACTOR * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> the same shape."""
        heads = self.trans_dims(x).unflatten(2, (-1, self.linear_0.in_features))  # (B, N, 4 h, d)
        return self.proj(self.recall(heads).flatten(2))


class NarrowingAttention(ExternalMemory):
    """Tokens brought to another width, and attention to memories of that width added to them."""

    def __init__(self, in_dim: int, dim: int, *, drop_rate: float) -> None:
        super().__init__(dim, TOKEN_UNITS, bias=False, drop_rate=drop_rate)
        self.q_linear = nn.Linear(in_dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop_rate)

    def start_as_transposes(self) -> None:
        """Let the second memory start as the transpose of the first."""
        self.linear_1.weight.data.copy_(self.linear_0.weight.data.t())

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in_dim) -> (B, N, dim)."""
        narrow = self.q_linear(x)
        return narrow + self.proj_drop(self.proj(self.recall(narrow)))


def check_heads(num_heads: int, dim: int) -> None:
    """See that the heads share the channels.

    Raises:
        ValueError: naming both and a remedy.
    """
    check_counts(num_heads=num_heads)
    if dim % num_heads:
        raise ValueError(
            f"num_heads: {num_heads} does not divide the width {dim}; use a divisor, such as "
            f"{math.gcd(dim, num_heads)}"
        )
