"""LV-ViT's inference, computed as its paper and code define it: oracle and benchmark baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.lvvit`. There is no stochastic depth and no MixToken.
Shapes: B images, N tokens and a class token, C channels, h heads of d channels.
"""

import torch
from torch import Tensor, nn

from benchmarks.plain.pointwise import Mlp

SIZES = {
    "lvvit_t": {"embed_dim": 240, "depth": 12, "num_heads": 4},
    "lvvit_s": {"embed_dim": 384, "depth": 16, "num_heads": 6, "residual_divisor": 2},
    "lvvit_m": {"embed_dim": 512, "depth": 20, "num_heads": 8, "residual_divisor": 2},
    "lvvit_l": {
        "embed_dim": 768, "depth": 24, "num_heads": 12, "residual_divisor": 3, "stem_width": 128,
    },
}  # fmt: skip


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainLVViT(**{**SIZES[name], **settings})


class Stem(nn.Module):
    """Convolutions, each with BatchNorm and a ReLU, then patches; or patches alone."""

    def __init__(self, in_chans: int, width: int, dim: int) -> None:
        super().__init__()
        self.numbers = (1, 2, 3) if width else ()
        for number in self.numbers:
            first = number == 1
            kernel, stride, padding = (7, 2, 3) if first else (3, 1, 1)
            before = in_chans if first else width
            conv = nn.Conv2d(before, width, kernel, stride, padding, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))
        self.proj = nn.Conv2d(width, dim, 8, 8) if width else nn.Conv2d(in_chans, dim, 16, 16)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, dim, H, W)."""
        for number in self.numbers:
            conv, norm = getattr(self, f"conv{number}"), getattr(self, f"bn{number}")
            x = norm(conv(x)).clamp(min=0)
        return self.proj(x)


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V in every head."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, C) -> the same shape."""
        C = x.shape[2]
        d = C // self.num_heads
        columns = self.qkv(x)  # numbered q C + h d + j
        outputs = []
        for head in range(self.num_heads):
            query, key, value = (
                columns[:, :, kind * C + head * d : kind * C + (head + 1) * d] for kind in range(3)
            )
            weights = (query @ key.transpose(1, 2) / d**0.5).softmax(dim=2)
            outputs.append(weights @ value)
        return self.proj(torch.cat(outputs, dim=2))


class Block(nn.Module):
    """Two residual branches, each divided by the same number."""

    def __init__(self, dim: int, num_heads: int, divisor: float) -> None:
        super().__init__()
        self.divisor = divisor
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1 + N, C) -> the same shape."""
        x = x + self.attn(self.norm1(x)) / self.divisor
        return x + self.mlp(self.norm2(x)) / self.divisor


class PlainLVViT(nn.Module):
    """Stem, class token, blocks; the class token's logits and half the tokens' greatest."""

    def __init__(
        self, *, embed_dim, depth, num_heads, residual_divisor=1, stem_width=64, aux_head=True,
        img_size=224, in_chans=3, num_classes=1000,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch_embed = Stem(in_chans, stem_width, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (img_size // 16) ** 2, embed_dim))
        blocks = [Block(embed_dim, num_heads, residual_divisor) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        self.aux_head = nn.Linear(embed_dim, num_classes) if aux_head else None

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        grid = self.patch_embed(images)
        tokens = grid.permute(0, 2, 3, 1).reshape(len(grid), -1, grid.shape[1])
        x = torch.cat([self.cls_token.repeat(len(grid), 1, 1), tokens], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        logits = self.head(x[:, 0])
        if self.aux_head is None:
            return logits
        return logits + 0.5 * self.aux_head(x[:, 1:]).max(dim=1).values
