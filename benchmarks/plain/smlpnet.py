"""sMLPNet, computed as the paper writes it: the tests' oracle and the baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.smlpnet`. There is no stochastic depth. Activations are (B, C, H, W).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.pointwise import Mlp, Pointwise

SIZES = {
    "smlpnet_tiny": {"embed_dim": 80, "depths": (2, 8, 14, 2)},
    "smlpnet_small": {"embed_dim": 96, "depths": (2, 10, 24, 2)},
    "smlpnet_base": {"embed_dim": 112, "depths": (2, 10, 24, 2)},
}


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainSMLPNet(**{**SIZES[name], **settings})


class SparseMlp(nn.Module):
    """A depthwise convolution, then the sparse MLP proper."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.mix_w = nn.Linear(grid[1], grid[1])
        self.mix_h = nn.Linear(grid[0], grid[0])
        self.fuse = Pointwise(3 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), normed, -> the same shape."""
        x = F.gelu(self.norm(self.local(F.gelu(x))))
        rows = self.mix_w(x)
        columns = self.mix_h(x.transpose(2, 3)).transpose(2, 3)
        return self.fuse(torch.cat([x, rows, columns], dim=1))


class Block(nn.Module):
    """Two residual branches."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = SparseMlp(dim, grid)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        tokens = self.norm2(x.permute(0, 2, 3, 1))
        return x + self.mlp(tokens).permute(0, 3, 1, 2)


class Embedding(nn.Module):
    """A convolution whose kernel is its stride."""

    def __init__(self, in_chans: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, patch_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim, H', W')."""
        return self.proj(x)


class Level(nn.Module):
    """An embedding and blocks."""

    def __init__(self, embed: nn.Module, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim, H', W')."""
        return self.blocks(self.embed(x))


class PlainSMLPNet(nn.Module):
    """The classifier."""

    def __init__(self, embed_dim, depths, img_size=224, in_chans=3, num_classes=1000) -> None:
        super().__init__()
        self.levels = nn.Sequential()
        channels = in_chans
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        for level, depth in enumerate(depths):
            dim, patch_size = embed_dim * 2**level, 2 if level else 4
            height, width = height // patch_size, width // patch_size
            blocks = [Block(dim, (height, width)) for _ in range(depth)]
            self.levels.append(Level(Embedding(channels, dim, patch_size), blocks))
            channels = dim
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        return self.head(self.norm(self.levels(images)).mean(dim=(2, 3)))
