"""AS-MLP, computed as the paper writes it: the tests' oracle and the baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.as_mlp`. There is no stochastic depth. Activations are (B, C, H, W).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.amixer import Stage
from benchmarks.plain.pointwise import Pointwise, PointwiseMlp

SIZES = {
    "as_mlp_tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2)},
    "as_mlp_small": {"embed_dim": 96, "depths": (2, 2, 18, 2)},
    "as_mlp_base": {"embed_dim": 128, "depths": (2, 2, 18, 2)},
}


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainASMLP(**{**SIZES[name], **settings})


class AxialShift(nn.Module):
    """S groups of channels, moved along the width and along the height."""

    def __init__(self, dim: int, shift_size: int) -> None:
        super().__init__()
        self.shift_size = shift_size
        self.norm1 = nn.GroupNorm(1, dim)
        self.norm2 = nn.GroupNorm(1, dim)
        self.conv1 = Pointwise(dim, dim)
        self.conv2_1 = Pointwise(dim, dim)
        self.conv2_2 = Pointwise(dim, dim)
        self.conv3 = Pointwise(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = F.gelu(self.norm1(self.conv1(x)))
        sideways = F.gelu(self.conv2_1(self.moved(x, 3)))
        up_and_down = F.gelu(self.conv2_2(self.moved(x, 2)))
        return self.conv3(self.norm2(sideways + up_and_down))

    def moved(self, x: Tensor, dim: int) -> Tensor:
        """Every group rolled by its distance in a map with a border of zeros, which is cut off."""
        border = self.shift_size // 2
        groups = F.pad(x, [border] * 4).chunk(self.shift_size, dim=1)
        rolled = [group.roll(i - border, dims=dim) for i, group in enumerate(groups)]
        H, W = x.shape[2:]
        return torch.cat(rolled, 1)[:, :, border : border + H, border : border + W]


class Block(nn.Module):
    """Two residual branches."""

    def __init__(self, dim: int, shift_size: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, dim)
        self.attn = AxialShift(dim, shift_size)
        self.norm2 = nn.GroupNorm(1, dim)
        self.mlp = PointwiseMlp(dim, 4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Embedding(nn.Module):
    """Patches and a norm."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, 4, 4)
        self.norm = nn.GroupNorm(1, dim)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, dim, H, W)."""
        return self.norm(self.proj(images))


class Merging(nn.Module):
    """Four neighbours, concatenated in the order (0,0), (1,0), (0,1), (1,1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = Pointwise(4 * dim, 2 * dim, bias=False)
        self.norm = nn.GroupNorm(1, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2C, H/2, W/2), odd sides padded."""
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        corners = [x[:, :, y::2, x_::2] for x_ in (0, 1) for y in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=1)))


class PlainASMLP(nn.Module):
    """The classifier."""

    def __init__(self, embed_dim, depths, shift_size=5, in_chans=3, num_classes=1000) -> None:
        super().__init__()
        self.patch_embed = Embedding(in_chans, embed_dim)
        self.layers = nn.Sequential()
        for stage, depth in enumerate(depths):
            dim = embed_dim * 2**stage
            blocks = [Block(dim, shift_size) for _ in range(depth)]
            is_last = stage == len(depths) - 1
            self.layers.append(Stage(blocks, nn.Identity() if is_last else Merging(dim)))
        self.norm = nn.GroupNorm(1, dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        x = self.layers(self.patch_embed(images))
        return self.head(self.norm(x).mean(dim=(2, 3)))
