"""CycleMLP, computed as the paper writes it: the tests' oracle and the baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.cyclemlp`. There is no stochastic depth. Activations are (B, H, W, C).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.amixer import Stage
from benchmarks.plain.pyramid import Block, ThreeBranches

NARROW = (64, 128, 320, 512)
OVERLAPPING = {
    "cyclemlp_b1": {"depths": (2, 2, 4, 2), "dims": NARROW, "mlp_ratios": (4, 4, 4, 4)},
    "cyclemlp_b2": {"depths": (2, 3, 10, 3), "dims": NARROW, "mlp_ratios": (4, 4, 4, 4)},
    "cyclemlp_b3": {"depths": (3, 4, 18, 3), "dims": NARROW, "mlp_ratios": (8, 8, 4, 4)},
    "cyclemlp_b4": {"depths": (3, 8, 27, 3), "dims": NARROW, "mlp_ratios": (8, 8, 4, 4)},
    "cyclemlp_b5": {
        "depths": (3, 4, 24, 3), "dims": (96, 192, 384, 768), "mlp_ratios": (4, 4, 4, 4),
    },
}  # fmt: skip
MERGING = {
    "cyclemlp_t": {"embed_dim": 96, "depths": (2, 2, 6, 2)},
    "cyclemlp_s": {"embed_dim": 96, "depths": (2, 2, 18, 2)},
    "cyclemlp_b": {"embed_dim": 128, "depths": (2, 2, 18, 2)},
}


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    if name in MERGING:
        return PlainMergingCycleMLP(**{**MERGING[name], **settings})
    return PlainCycleMLP(**{**OVERLAPPING[name], **settings})


class CycleFC(nn.Linear):
    """A 1x1 convolution whose input channel c is read at an offset of ((c + 1) mod 3) - 1."""

    def __init__(self, dim: int, kernel: tuple[int, int]) -> None:
        super().__init__(dim, dim)
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        H, W, C = x.shape[1:]
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        sampled = torch.zeros_like(x)
        for c in range(min(3, C)):  # the channels c, c + 3, c + 6, ... have one offset
            offset = (c + 1) % 3 - 1
            down, right = (0, offset) if self.kernel == (1, 3) else (offset, 0)
            window = padded[:, 1 + down : 1 + down + H, 1 + right : 1 + right + W]
            sampled[..., c::3] = window[..., c::3]
        return super().forward(sampled)


class CycleMlp(ThreeBranches):
    """Both cycle layers and a channel layer."""

    def __init__(self, dim: int, reweight: bool) -> None:
        super().__init__(dim, 3, reweight)
        self.mlp_c = nn.Linear(dim, dim, bias=not reweight)
        self.sfc_h = CycleFC(dim, (1, 3))
        self.sfc_w = CycleFC(dim, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        return self.fuse([self.sfc_h(x), self.sfc_w(x), self.mlp_c(x)])


class Convolution(nn.Module):
    """(B, C, H, W) -> (B, H', W', dim)."""

    def __init__(self, in_chans: int, dim: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution, channels last."""
        return self.proj(x).permute(0, 2, 3, 1)


class PlainCycleMLP(nn.Module):
    """B1 to B5."""

    def __init__(self, depths, dims, mlp_ratios, in_chans=3, num_classes=1000) -> None:
        super().__init__()
        self.patch_embed = Convolution(in_chans, dims[0], 7, 4, 2)
        self.network = nn.ModuleList()
        for stage, (depth, dim, ratio) in enumerate(zip(depths, dims, mlp_ratios, strict=True)):
            if stage > 0:
                self.network.append(Convolution(dims[stage - 1], dim, 3, 2, 1))
            blocks = [Block(dim, CycleMlp(dim, reweight=True), ratio) for _ in range(depth)]
            self.network.append(nn.Sequential(*blocks))
        self.norm = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        x = self.patch_embed(images)
        for part in self.network:
            x = part(x.permute(0, 3, 1, 2)) if isinstance(part, Convolution) else part(x)
        return self.head(self.norm(x).mean(dim=(1, 2)))


class Merging(nn.Module):
    """Four neighbours, concatenated in the order (0,0), (1,0), (0,1), (1,1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, 2C), odd sides padded."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class NormedConvolution(Convolution):
    """The same and a LayerNorm."""

    def __init__(self, in_chans: int, dim: int, patch_size: int) -> None:
        super().__init__(in_chans, dim, patch_size, patch_size, 0)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H', W', dim)."""
        return self.norm(super().forward(x))


class PlainMergingCycleMLP(nn.Module):
    """T, S and B: a reading of the paper, whose authors published no code of them."""

    def __init__(self, embed_dim, depths, in_chans=3, num_classes=1000) -> None:
        super().__init__()
        self.patch_embed = NormedConvolution(in_chans, embed_dim, 4)
        self.layers = nn.Sequential()
        for stage, depth in enumerate(depths):
            dim = embed_dim * 2**stage
            blocks = [Block(dim, CycleMlp(dim, reweight=False), 4) for _ in range(depth)]
            is_last = stage == len(depths) - 1
            self.layers.append(Stage(blocks, nn.Identity() if is_last else Merging(dim)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        x = self.layers(self.patch_embed(images))
        return self.head(self.norm(x).mean(dim=(1, 2)))
