"""EAMLP's inference, computed as the paper and the code define it: oracle and benchmark baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.eamlp`. There is no dropout and no stochastic depth.
Shapes: B images, N tokens, C channels, h heads of d channels, S memory units.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.pointwise import Mlp

SIZES = {
    "eamlp_7": {"embed_dim": 256, "depth": 7, "num_heads": 4, "mlp_ratio": 2},
    "eamlp_14": {"embed_dim": 384, "depth": 14, "num_heads": 6, "mlp_ratio": 3},
    "eamlp_19": {"embed_dim": 448, "depth": 19, "num_heads": 7, "mlp_ratio": 3},
    "eamlp_24": {"embed_dim": 512, "depth": 24, "num_heads": 8, "mlp_ratio": 3},
}


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainEAMLP(**{**SIZES[name], **settings})


def external_attention(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """One head, (B, N, d): softmax over the tokens, then each token's row sums to 1."""
    weights = first(x).softmax(dim=1)
    weights = weights / (1e-9 + weights.sum(dim=2, keepdim=True))
    return second(weights)


class TokenAttention(nn.Module):
    """A narrower token, and what its one head attends to added to it."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.q_linear = nn.Linear(in_dim, dim)
        self.linear_0 = nn.Linear(dim, 128, bias=False)
        self.linear_1 = nn.Linear(128, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in_dim) -> (B, N, dim)."""
        query = self.q_linear(x)
        return query + self.proj(external_attention(query, self.linear_0, self.linear_1))


class TokenBlock(nn.Module):
    """The block between two splits; only the MLP has the block's own residual."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim)
        self.attn = TokenAttention(in_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in_dim) -> (B, N, dim)."""
        x = self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def soft_split(grid: Tensor, kernel: int, stride: int, padding: int) -> tuple[Tensor, int]:
    """(B, C, H, W) -> (B, N, C kernel^2) numbered c kernel^2 + i kernel + j, and the rows of N."""
    rows = (grid.shape[2] + 2 * padding - kernel) // stride + 1
    return F.unfold(grid, kernel, padding=padding, stride=stride).permute(0, 2, 1), rows


def as_grid(tokens: Tensor, rows: int) -> Tensor:
    """(B, N, C) -> (B, C, rows, N / rows)."""
    B, N, C = tokens.shape
    return tokens.permute(0, 2, 1).reshape(B, C, rows, N // rows)


class TokensToToken(nn.Module):
    """Three soft splits, with a block after the first two and a linear layer after the last."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.attention1 = TokenBlock(49 * in_chans, 64)
        self.attention2 = TokenBlock(9 * 64, 64)
        self.project = nn.Linear(9 * 64, dim)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, N, dim)."""
        x, rows = soft_split(images, 7, 4, 2)
        x, rows = soft_split(as_grid(self.attention1(x), rows), 3, 2, 1)
        x, _ = soft_split(as_grid(self.attention2(x), rows), 3, 2, 1)
        return self.project(x)


class BlockAttention(nn.Module):
    """External attention of 4 h heads at four times the width."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        self.trans_dims = nn.Linear(dim, 4 * dim)
        self.linear_0 = nn.Linear(self.head_dim, 64)
        self.linear_1 = nn.Linear(64, self.head_dim)
        self.proj = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> the same shape."""
        heads = self.trans_dims(x).split(self.head_dim, dim=2)
        mixed = [external_attention(head, self.linear_0, self.linear_1) for head in heads]
        return self.proj(torch.cat(mixed, dim=2))


class Block(nn.Module):
    """Two residual branches."""

    def __init__(self, dim: int, num_heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = BlockAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PlainEAMLP(nn.Module):
    """Tokens, class token, fixed positions, blocks, the class token's logits."""

    def __init__(
        self, *, embed_dim, depth, num_heads, mlp_ratio, img_size=224, in_chans=3, num_classes=1000
    ) -> None:
        super().__init__()
        self.tokens_to_token = TokensToToken(in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        position = torch.arange(1 + (img_size // 16) ** 2)[:, None]
        channel = torch.arange(embed_dim)
        angle = position.double() / 10000 ** (2 * (channel // 2) / embed_dim)
        waves = angle.sin() * (channel % 2 == 0) + angle.cos() * (channel % 2 == 1)
        self.pos_embed = nn.Parameter(waves[None].float(), requires_grad=False)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        x = self.tokens_to_token(images)
        x = torch.cat([self.cls_token.repeat(len(x), 1, 1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])
