"""RaftMLP, computed as the paper writes it: the tests' oracle and the baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.raftmlp`. There is no stochastic depth. Activations are (B, C, H, W).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.pointwise import Mlp
from benchmarks.plain.smlpnet import Level

CROSS = ((4, 8), (2, 4), (2, 4), (2,))
SIZES = {
    "raftmlp_s": {"depths": (2, 2, 6, 2), "dims": (64, 128, 256, 512), "kernels": CROSS},
    "raftmlp_m": {"depths": (2, 2, 6, 2), "dims": (96, 192, 384, 768), "kernels": CROSS},
    "raftmlp_l": {"depths": (2, 2, 6, 2), "dims": (128, 192, 512, 1024), "kernels": CROSS},
    "raftmlp_12": {"depths": (12,), "dims": (768,), "kernels": ((16,),), "raft_size": 4},
    "raftmlp_36": {"depths": (36,), "dims": (384,), "kernels": ((16,),)},
}


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainRaftMLP(**{**SIZES[name], **settings})


class Raft(nn.Module):
    """The mixing of columns: v[rho H + y], for every column and every kappa, through one MLP."""

    def __init__(self, dim: int, length: int, raft_size: int) -> None:
        super().__init__()
        self.raft_size = raft_size
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(raft_size * length, 2 * raft_size * length)
        self.fc2 = nn.Linear(2 * raft_size * length, raft_size * length)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        B, C, H, W = x.shape
        r, n = self.raft_size, C // self.raft_size
        normed = self.norm(x.permute(0, 2, 3, 1))
        v = normed.reshape(B, H, W, r, n).permute(0, 2, 4, 3, 1).reshape(B, W, n, r * H)
        v = self.fc2(F.gelu(self.fc1(v)))
        return v.reshape(B, W, n, r, H).permute(0, 3, 2, 4, 1).reshape(B, C, H, W)


class Block(nn.Module):
    """Three residual branches, two of them on a grid of the size that they are made for."""

    def __init__(self, dim: int, grid: tuple[int, int], raft_size: int) -> None:
        super().__init__()
        self.grid = grid
        self.vertical = Raft(dim, grid[0], raft_size)
        self.horizontal = Raft(dim, grid[1], raft_size)
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        size = x.shape[2:]
        x = F.interpolate(x, self.grid, mode="bicubic")
        x = x + self.vertical(x)
        x = x + self.horizontal(x.transpose(2, 3)).transpose(2, 3)
        x = F.interpolate(x, size, mode="bicubic")
        return x + self.mlp(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class Embedding(nn.Module):
    """Patches of several sizes around the same places."""

    def __init__(self, in_chans: int, dim: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.stride = kernels[0]
        self.convs = nn.ModuleList(
            nn.Conv2d(in_chans, dim, k, self.stride, (k - self.stride) // 2, bias=k == self.stride)
            for k in kernels
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim, ceil(H / stride), ceil(W / stride))."""
        whole = [-(-side // self.stride) * self.stride for side in x.shape[2:]]
        x = F.interpolate(x, whole, mode="bicubic")
        return sum(conv(x) for conv in self.convs)


class PlainRaftMLP(nn.Module):
    """The classifier."""

    def __init__(
        self, depths, dims, kernels, raft_size=2, img_size=224, in_chans=3, num_classes=1000
    ) -> None:
        super().__init__()
        self.levels = nn.Sequential()
        channels = in_chans
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        for depth, dim, of_level in zip(depths, dims, kernels, strict=True):
            height, width = -(-height // of_level[0]), -(-width // of_level[0])
            blocks = [Block(dim, (height, width), raft_size) for _ in range(depth)]
            self.levels.append(Level(Embedding(channels, dim, of_level), blocks))
            channels = dim
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        x = self.levels(images)
        return self.head(self.norm(x.permute(0, 2, 3, 1)).mean(dim=(1, 2)))
