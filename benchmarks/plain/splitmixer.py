"""SplitMixer and ConvMixer, computed as the papers write them: oracle and benchmark baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.splitmixer`. There is no stochastic depth.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZES = {
    "splitmixer_1536_20": {"dim": 1536, "depth": 20, "kernel_size": 9, "patch_size": 7},
    "splitmixer_768_32": {
        "dim": 768, "depth": 32, "kernel_size": 7, "patch_size": 7, "activation": F.relu,
    },
    "splitmixer_1024_20_ks9_p14": {"dim": 1024, "depth": 20, "kernel_size": 9, "patch_size": 14},
}  # fmt: skip
SMALL = {"dim": 256, "depth": 8}
CIFAR = {"kernel_size": 5, "patch_size": 2, "num_classes": 10}
FOOD = {"kernel_size": 7, "patch_size": 7, "num_classes": 101}
SPLITS = {
    "splitmixer_i": {"split": "i"},
    "splitmixer_ii": {"split": "ii"},
    "splitmixer_iii": {"split": "iii"},
    "splitmixer_iv": {"split": "iv"},
    "splitmixer_v": {"split": "v"},
    "convmixer": {"split": "none", "split_spatial": False},
    "stridemixer_i": {"split": "stride", "window": 170, "stride": 86},
    "stridemixer_iii": {"split": "stride", "window": 128, "stride": 128},
}


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    if name in SIZES:
        return PlainSplitMixer(**{**SIZES[name], **settings})
    family, _, size = name.partition("_256_8")
    data = FOOD if size else CIFAR
    return PlainSplitMixer(**{**SMALL, **data, **SPLITS[family], **settings})


class Act(nn.Module):
    """An activation function as a module, so that keys are numbered as the authors'."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return self.function(x)


class Residual(nn.Module):
    """x + fn(x)."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.fn(x)


class ChannelMixer(nn.Module):
    """The partial 1x1 convolutions of one block, by the paper's setting."""

    def __init__(self, split, dim, block, ratio, segments, window, stride) -> None:
        super().__init__()
        self.split, self.block, self.segments = split, block, segments
        self.part = int(dim * ratio)
        size = dim // segments
        self.sizes = [size] * (segments - 1) + [dim - size * (segments - 1)]
        self.positions = range(0, dim - window + 1, stride)
        self.window = window
        if split == "i":
            self.mixer = nn.Conv2d(self.part, self.part, 1)
        elif split == "ii":
            chosen = self.sizes[block % segments]
            self.mixer = nn.Conv2d(chosen, chosen, 1)
        elif split == "iii":
            self.mixer = nn.Conv2d(size, size, 1)
        elif split == "iv":
            self.mixer = nn.ModuleList(nn.Conv2d(size, size, 1) for size in self.sizes)
        elif split == "v":
            self.mixer1 = nn.Conv2d(self.part, self.part, 1)
            self.mixer2 = nn.Conv2d(self.part, self.part, 1)
        else:
            self.mixer = nn.Conv2d(window, dim // len(self.positions), 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return getattr(self, f"setting_{self.split}")(x)

    def setting_i(self, x: Tensor) -> Tensor:
        """The first part in even blocks, the last in odd ones."""
        if self.block % 2 == 0:
            return torch.cat([self.mixer(x[:, : self.part]), x[:, self.part :]], dim=1)
        rest = x.shape[1] - self.part
        return torch.cat([x[:, :rest], self.mixer(x[:, rest:])], dim=1)

    def setting_ii(self, x: Tensor) -> Tensor:
        """Segment i mod s in block i."""
        segments = list(x.split(self.sizes, dim=1))
        chosen = self.block % self.segments
        segments[chosen] = self.mixer(segments[chosen])
        return torch.cat(segments, dim=1)

    def setting_iii(self, x: Tensor) -> Tensor:
        """One convolution for all segments."""
        return torch.cat([self.mixer(part) for part in x.chunk(self.segments, dim=1)], dim=1)

    def setting_iv(self, x: Tensor) -> Tensor:
        """Each segment its own."""
        parts = zip(self.mixer, x.split(self.sizes, dim=1), strict=True)
        return torch.cat([mixer(part) for mixer, part in parts], dim=1)

    def setting_v(self, x: Tensor) -> Tensor:
        """The first part, then the last part of the result."""
        x = torch.cat([self.mixer1(x[:, : self.part]), x[:, self.part :]], dim=1)
        rest = x.shape[1] - self.part
        return torch.cat([x[:, :rest], self.mixer2(x[:, rest:])], dim=1)

    def setting_stride(self, x: Tensor) -> Tensor:
        """Output channel o N + p is filter o at position p of the window."""
        at = [self.mixer(x[:, start : start + self.window]) for start in self.positions]
        return torch.cat([y[:, o : o + 1] for o in range(at[0].shape[1]) for y in at], dim=1)


class PlainSplitMixer(nn.Module):
    """Stem, blocks of spatial and channel mixing, pooled head."""

    def __init__(
        self,
        dim,
        depth,
        kernel_size,
        patch_size,
        split="i",
        split_spatial=True,
        ratio=2 / 3,
        segments=2,
        window=128,
        stride=128,
        activation=F.gelu,
        in_chans=3,
        num_classes=1000,
    ) -> None:
        super().__init__()

        def normed(layer: nn.Module) -> nn.Sequential:
            return nn.Sequential(layer, Act(activation), nn.BatchNorm2d(dim))

        def depthwise(*kernel: int) -> nn.Sequential:
            return normed(nn.Conv2d(dim, dim, kernel, padding="same", groups=dim))

        self.patch_emb = normed(nn.Conv2d(in_chans, dim, patch_size, patch_size))
        self.mixer_blocks = nn.Sequential()
        for block in range(depth):
            if split_spatial:
                spatial = nn.Sequential(*depthwise(1, kernel_size), *depthwise(kernel_size, 1))
            else:
                spatial = depthwise(kernel_size, kernel_size)
            if split == "none":
                mixer = nn.Conv2d(dim, dim, 1)
            else:
                mixer = ChannelMixer(split, dim, block, ratio, segments, window, stride)
            self.mixer_blocks.append(Residual(spatial))
            self.mixer_blocks.append(normed(mixer))
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes)."""
        x = self.mixer_blocks(self.patch_emb(images))
        return self.head(x.mean(dim=(2, 3)))
