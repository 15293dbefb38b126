"""Hire-MLP, computed as the paper writes it: the tests' oracle and the baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.hire_mlp`. There is no stochastic depth. Activations are (B, C, H, W).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.pointwise import Pointwise, PointwiseMlp

NARROW = (64, 128, 320, 512)
SIZES = {
    "hire_mlp_tiny": {"depths": (2, 2, 4, 2), "dims": NARROW},
    "hire_mlp_small": {"depths": (3, 4, 10, 3), "dims": NARROW},
    "hire_mlp_base": {"depths": (4, 6, 24, 3), "dims": NARROW},
    "hire_mlp_large": {"depths": (4, 6, 24, 3), "dims": (96, 192, 384, 768)},
}
REGIONS = (4, 3, 3, 2)
STEPS = ((0, 2), (0, 2), (0, 1, 2), (0, 1))
"""Of the blocks of each stage, again and again."""


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainHireMLP(**{**SIZES[name], **settings})


class HireModule(nn.Module):
    """Regions of both axes and channels; p tokens of a region, moved by `step` before it is cut."""

    def __init__(self, dim: int, region: int, step: int) -> None:
        super().__init__()
        self.region, self.step = region, step
        self.mlp_h1 = Pointwise(region * dim, dim // 2, bias=False)
        self.mlp_h1_norm = nn.BatchNorm2d(dim // 2)
        self.mlp_h2 = Pointwise(dim // 2, region * dim)
        self.mlp_w1 = Pointwise(region * dim, dim // 2, bias=False)
        self.mlp_w1_norm = nn.BatchNorm2d(dim // 2)
        self.mlp_w2 = Pointwise(dim // 2, region * dim)
        self.mlp_c = Pointwise(dim, dim)
        self.reweight = PointwiseMlp(dim, dim // 4, 3 * dim)
        self.proj = Pointwise(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        B, C, H, W = x.shape
        p = self.region

        down, right = -H % p, -W % p
        h = F.pad(x.roll(self.step, dims=2), (0, 0, 0, down), mode="circular")
        h = h.reshape(B, C, (H + down) // p, p, W).permute(0, 1, 3, 2, 4)
        h = h.reshape(B, C * p, (H + down) // p, W)
        h = self.mlp_h2(F.relu(self.mlp_h1_norm(self.mlp_h1(h))))
        h = h.reshape(B, C, p, (H + down) // p, W).permute(0, 1, 3, 2, 4)
        h = h.reshape(B, C, H + down, W)[:, :, :H].roll(-self.step, dims=2)

        w = F.pad(x.roll(self.step, dims=3), (0, right, 0, 0), mode="circular")
        w = w.reshape(B, C, H, (W + right) // p, p).permute(0, 1, 4, 2, 3)
        w = w.reshape(B, C * p, H, (W + right) // p)
        w = self.mlp_w2(F.relu(self.mlp_w1_norm(self.mlp_w1(w))))
        w = w.reshape(B, C, p, H, (W + right) // p).permute(0, 1, 3, 4, 2)
        w = w.reshape(B, C, H, W + right)[:, :, :, :W].roll(-self.step, dims=3)

        c = self.mlp_c(x)
        mean = (h + w + c).mean(dim=(2, 3), keepdim=True)
        a = self.reweight(mean).reshape(B, C, 3).softmax(dim=2)[..., None, None]
        return self.proj(a[:, :, 0] * h + a[:, :, 1] * w + a[:, :, 2] * c)


class Block(nn.Module):
    """Two residual branches."""

    def __init__(self, dim: int, region: int, step: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = HireModule(dim, region, step)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = PointwiseMlp(dim, 4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Embedding(nn.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, in_chans: int, dim: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, kernel, stride, padding)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim, H', W')."""
        return F.relu(self.norm(self.proj(x)))


class PlainHireMLP(nn.Module):
    """The classifier."""

    def __init__(self, depths, dims, in_chans=3, num_classes=1000) -> None:
        super().__init__()
        self.patch_embed = Embedding(in_chans, dims[0], 7, 4, 2)
        self.network = nn.ModuleList()
        for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            if stage > 0:
                self.network.append(Embedding(dims[stage - 1], dim, 3, 2, 1))
            steps = [STEPS[stage][block % len(STEPS[stage])] for block in range(depth)]
            self.network.append(nn.Sequential(*[Block(dim, REGIONS[stage], s) for s in steps]))
        self.norm = nn.BatchNorm2d(dims[-1])
        self.head = nn.Linear(dims[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes) logits."""
        x = self.patch_embed(images)
        for part in self.network:
            x = part(x)
        return self.head(self.norm(x).mean(dim=(2, 3)))
