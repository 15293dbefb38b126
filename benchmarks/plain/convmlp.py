"""ConvMLP, computed as the paper writes it: the tests' oracle and the baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.convmlp`. There is no stochastic depth. Shapes: B images, H W grid, C channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.pointwise import Mlp

SIZES = {
    "convmlp_s": {
        "token_dim": 64, "conv_depth": 2, "depths": (2, 4, 2), "dims": (128, 256, 512),
        "mlp_ratio": 2,
    },
    "convmlp_m": {
        "token_dim": 64, "conv_depth": 3, "depths": (3, 6, 3), "dims": (128, 256, 512),
        "mlp_ratio": 3,
    },
    "convmlp_l": {
        "token_dim": 96, "conv_depth": 3, "depths": (4, 8, 3), "dims": (192, 384, 768),
        "mlp_ratio": 3,
    },
}  # fmt: skip


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainConvMLP(**{**SIZES[name], **settings})


def convolutions(*shapes: tuple[int, int, int, int]) -> nn.Sequential:
    """Convolutions of (in, out, kernel, stride), each followed by BatchNorm and a ReLU."""
    layers = nn.Sequential()
    for before, after, kernel, stride in shapes:
        layers.append(nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, bias=False))
        layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU())
    return layers


class Tokenizer(nn.Module):
    """Three convolutions and a maximum."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.block = convolutions((in_chans, half, 3, 2), (half, half, 3, 1), (half, dim, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, dim, H, W)."""
        return F.max_pool2d(self.block(x), kernel_size=3, stride=2, padding=1)


class ConvStage(nn.Module):
    """Residual convolutions at one width, then a convolution to another."""

    def __init__(self, dim: int, hidden: int, depth: int) -> None:
        super().__init__()
        shapes = (dim, hidden, 1, 1), (hidden, hidden, 3, 1), (hidden, dim, 1, 1)
        self.conv_blocks = nn.ModuleList(convolutions(*shapes) for _ in range(depth))
        self.downsample = nn.Conv2d(dim, hidden, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> (B, hidden, H / 2, W / 2)."""
        for block in self.conv_blocks:
            x = x + block(x)
        return self.downsample(x)


class Block(nn.Module):
    """MLP with a residual, depthwise convolution without, MLP with a residual."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.channel_mlp1 = Mlp(dim, ratio * dim)
        self.connect_norm = nn.LayerNorm(dim)
        self.connect = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim, bias=False)
        self.norm2 = nn.LayerNorm(dim)
        self.channel_mlp2 = Mlp(dim, ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.channel_mlp1(self.norm1(x))
        x = self.connect(self.connect_norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.channel_mlp2(self.norm2(x))


class Downsample(nn.Module):
    """A strided convolution of a channels-last grid."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(dim, out_dim, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) -> (B, H / 2, W / 2, out_dim)."""
        return self.downsample(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Stage(nn.Module):
    """Blocks and, but for the last stage, downsampling."""

    def __init__(self, dim: int, depth: int, ratio: int, out_dim: int | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, ratio) for _ in range(depth))
        self.downsample_mlp = None if out_dim is None else Downsample(dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) -> (B, H / 2, W / 2, out_dim), or the same shape."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample_mlp is None else self.downsample_mlp(x)


class PlainConvMLP(nn.Module):
    """Tokenizer, convolutional stage, stages of MLPs, mean of the tokens, classifier."""

    def __init__(
        self, *, token_dim, conv_depth, depths, dims, mlp_ratio, in_chans=3, num_classes=1000
    ) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(in_chans, token_dim)
        self.conv_stages = ConvStage(token_dim, dims[0], conv_depth)
        after = [*dims[1:], None]
        self.stages = nn.ModuleList(
            Stage(dim, depth, mlp_ratio, out_dim)
            for dim, depth, out_dim in zip(dims, depths, after, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        x = self.conv_stages(self.tokenizer(images)).permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean(dim=(1, 2)))
