"""GFNet, computed as the paper writes it, with FFTs: oracle and benchmark baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.gfnet`. There is no stochastic depth. Shapes: B images, H W grid, C channels.
"""

import torch
from torch import Tensor, nn

from benchmarks.plain.pointwise import Mlp

PYRAMID = {"patch_size": 4, "layer_scale": True}
SIZES = {
    "gfnet_ti": {"dims": (256,), "depths": (12,)},
    "gfnet_xs": {"dims": (384,), "depths": (12,)},
    "gfnet_s": {"dims": (384,), "depths": (19,)},
    "gfnet_b": {"dims": (512,), "depths": (19,)},
    "gfnet_h_ti": {"dims": (64, 128, 256, 512), "depths": (3, 3, 10, 3), **PYRAMID},
    "gfnet_h_s": {"dims": (96, 192, 384, 768), "depths": (3, 3, 10, 3), **PYRAMID},
    "gfnet_h_b": {"dims": (96, 192, 384, 768), "depths": (3, 3, 27, 3), **PYRAMID},
}


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainGFNet(**{**SIZES[name], **settings})


class GlobalFilter(nn.Module):
    """Fourier transform, a product with the learned response, and back."""

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.complex_weight = nn.Parameter(torch.zeros(side, side // 2 + 1, dim, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")
        spectrum = spectrum * torch.view_as_complex(self.complex_weight)
        return torch.fft.irfft2(spectrum, s=x.shape[1:3], dim=(1, 2), norm="ortho")


class Block(nn.Module):
    """One residual for the filter and the MLP."""

    def __init__(self, dim: int, side: int, layer_scale: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.filter = GlobalFilter(dim, side)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)
        if layer_scale:
            self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        branch = self.mlp(self.norm2(self.filter(self.norm1(x))))
        return x + (self.gamma * branch if hasattr(self, "gamma") else branch)


class Convolution(nn.Module):
    """Patches, and downsampling between stages."""

    def __init__(self, in_chans: int, dim: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H / stride, W / stride, dim)."""
        return self.proj(x).permute(0, 2, 3, 1)


class PlainGFNet(nn.Module):
    """Patches with positions, one stage of blocks or four, mean of the tokens, classifier."""

    def __init__(
        self, *, dims, depths, patch_size=16, layer_scale=False, img_size=224, in_chans=3,
        num_classes=1000,
    ) -> None:  # fmt: skip
        super().__init__()
        side = img_size // patch_size
        self.side = side
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side, dims[0]))
        stems, stages = [], []
        for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            before, stride = (in_chans, patch_size) if stage == 0 else (dims[stage - 1], 2)
            stems.append(Convolution(before, dim, stride))
            blocks = [Block(dim, side // 2**stage, layer_scale) for _ in range(depth)]
            stages.append(nn.Sequential(*blocks))
        is_pyramid = len(dims) > 1
        self.patch_embed = nn.ModuleList(stems) if is_pyramid else stems[0]
        self.blocks = nn.ModuleList(stages) if is_pyramid else stages[0]
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.head = nn.Linear(dims[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        is_pyramid = isinstance(self.patch_embed, nn.ModuleList)
        stems = list(self.patch_embed) if is_pyramid else [self.patch_embed]
        stages = list(self.blocks) if is_pyramid else [self.blocks]
        x = stems[0](images) + self.pos_embed.reshape(1, self.side, self.side, -1)
        x = stages[0](x)
        for stem, blocks in zip(stems[1:], stages[1:], strict=True):
            x = blocks(stem(x.permute(0, 3, 1, 2)))
        return self.head(self.norm(x).mean(dim=(1, 2)))
