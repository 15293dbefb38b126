"""AMixer, computed as the paper writes it: the tests' oracle and the benchmark's baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.amixer` and `models.amixer_windowed`. There is no stochastic depth.
Shapes: B images or windows, n tokens, C channels, M heads, K matrices in the bank.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.pointwise import Mlp

ISOTROPIC = {"amixer_deit_s": {"embed_dim": 384, "depth": 17, "num_heads": 8, "bank_size": 16}}
WINDOWED = {
    "amixer_t": {"embed_dim": 96, "depths": (2, 2, 10, 2), "num_heads": (3, 6, 12, 24)},
    "amixer_s": {"embed_dim": 96, "depths": (2, 2, 26, 2), "num_heads": (3, 6, 12, 24)},
    "amixer_b": {"embed_dim": 128, "depths": (2, 2, 26, 2), "num_heads": (4, 8, 16, 32)},
}


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name` at 224 pixels; `settings` are constructor arguments to change."""
    if name in ISOTROPIC:
        return PlainAMixer(**{**ISOTROPIC[name], **settings})
    return PlainWindowedAMixer(**{**WINDOWED[name], **settings})


@functools.cache
def offset_columns(h: int, w: int) -> list[list[int]]:
    """For source (y, x), in rows, and target (v, u), in columns: the bank's column, written out."""
    tokens = [(y, x) for y in range(h) for x in range(w)]
    return [[(y - v + h - 1) * (2 * w - 1) + (x - u + w - 1) for v, u in tokens] for y, x in tokens]


class AdaptiveMixing(nn.Module):
    """Y[b] = sum over sources a of A[a, b] V[a]; A is generated from each source's own token."""

    def __init__(self, dim, window, num_heads, bank_size, mode, bank) -> None:
        super().__init__()
        n, offsets = window[0] * window[1], (2 * window[0] - 1) * (2 * window[1] - 1)
        shape = (bank_size, offsets) if bank == "relative" else (bank_size, n, n)
        self.weight_bank = nn.Parameter(0.02 * torch.randn(shape))
        self.adapter = nn.Sequential(
            nn.Linear(dim, dim // 4), nn.GELU(), nn.Linear(dim // 4, bank_size * num_heads)
        )
        self.pre_proj = nn.Linear(dim, dim)
        self.post_proj = nn.Linear(dim, dim)
        self.num_heads, self.bank_size, self.mode = num_heads, bank_size, mode
        index = torch.tensor(offset_columns(*window)) if bank == "relative" else None
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(B, n, C) -> (B, n, C); `allowed` is (B, source, target)."""
        B, n, C = x.shape
        policy = self.adapter(x).reshape(B, n, self.bank_size, self.num_heads)
        if self.mode in ("softmax", "softmax-softmax"):
            policy = policy.softmax(dim=2)
        if self.mode == "sigmoid":
            policy = policy.sigmoid()
        bank = self.weight_bank if self.index is None else self.weight_bank[:, self.index]
        weights = torch.einsum("bakm,kac->bacm", policy, bank)
        if allowed is not None:
            empty = float("-inf") if self.mode.endswith(("-softmax", "-sigmoid")) else 0.0
            weights = weights.masked_fill(~allowed[..., None], empty)
        if self.mode.endswith("-softmax"):
            weights = weights.softmax(dim=1)
        if self.mode == "linear-sigmoid":
            weights = weights.sigmoid()
        if self.mode == "linear-normalize":
            weights = F.normalize(weights, p=2, dim=1)
        values = self.pre_proj(x).reshape(B, n, self.num_heads, C // self.num_heads)
        mixed = torch.einsum("bacm,bamd->bcmd", weights, values)
        return self.post_proj(mixed.reshape(B, n, C))


class PatchEmbed(nn.Module):
    """Convolution and LayerNorm."""

    def __init__(self, in_chans: int, dim: int, patch_size: int, eps: float) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, patch_size)
        self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, images: Tensor) -> Tensor:
        """Images -> (B, H, W, C)."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class Block(nn.Module):
    """Two residual branches, each with a scale per channel."""

    def __init__(self, dim: int, gamma: float, eps: float) -> None:
        super().__init__()
        self.gamma1 = nn.Parameter(gamma * torch.ones(dim))
        self.gamma2 = nn.Parameter(gamma * torch.ones(dim))
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.gamma1 * self.mix(self.norm1(x))
        return x + self.gamma2 * self.mlp(self.norm2(x))


class GridBlock(Block):
    """All tokens of the grid mix."""

    def __init__(self, dim, grid, num_heads, bank_size, mode, bank) -> None:
        super().__init__(dim, gamma=1e-4, eps=1e-6)
        self.spatil_mlp = AdaptiveMixing(dim, grid, num_heads, bank_size, mode, bank)

    def mix(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        return self.spatil_mlp(x.flatten(1, 2)).reshape(x.shape)


class PlainAMixer(nn.Module):
    """AMixer-DeiT."""

    def __init__(
        self,
        embed_dim,
        depth,
        num_heads,
        bank_size,
        mode="linear-softmax",
        bank="relative",
        patch_size=16,
        img_size=(224, 224),
        in_chans=3,
        num_classes=1000,
    ) -> None:
        super().__init__()
        grid = (img_size[0] // patch_size, img_size[1] // patch_size)
        self.patch_embed = PatchEmbed(in_chans, embed_dim, patch_size, 1e-6)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, *grid, embed_dim))
        self.blocks = nn.Sequential(
            *(GridBlock(embed_dim, grid, num_heads, bank_size, mode, bank) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes)."""
        x = self.blocks(self.patch_embed(images) + self.pos_embed)
        return self.head(self.norm(x).flatten(1, 2).mean(dim=1))


class WindowBlock(Block):
    """Tokens mix inside windows: norm, pad, shift, cut into windows, and all of it back."""

    def __init__(self, dim, window, shift, num_heads, mode, mask) -> None:
        super().__init__(dim, gamma=1e-3, eps=1e-5)
        bank_size = int(1.5 * num_heads)
        self.spatial_mixer = AdaptiveMixing(dim, window, num_heads, bank_size, mode, "relative")
        self.window, self.shift, self.mask = window, shift, mask

    def mix(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        B, H, W, C = x.shape
        h, w = self.window
        x = F.pad(x, (0, 0, 0, -W % w, 0, -H % h))
        padded = x.shape
        x = torch.roll(x, (-self.shift[0], -self.shift[1]), dims=(1, 2))
        windows = x.view(B, padded[1] // h, h, padded[2] // w, w, C).transpose(2, 3)
        allowed = self.allowed_pairs(padded).repeat(B, 1, 1) if self.mask else None
        mixed = self.spatial_mixer(windows.reshape(-1, h * w, C), allowed)
        x = mixed.view(B, padded[1] // h, padded[2] // w, h, w, C).transpose(2, 3).reshape(padded)
        x = torch.roll(x, self.shift, dims=(1, 2))
        return x[:, :H, :W]

    def allowed_pairs(self, padded: torch.Size) -> Tensor:
        """(windows, n, n): pairs that are less than a window apart in the grid before the shift."""
        (h, w), pairs = self.window, []
        for top in range(0, padded[1], h):
            for left in range(0, padded[2], w):
                places = [
                    ((top + y + self.shift[0]) % padded[1], (left + x + self.shift[1]) % padded[2])
                    for y in range(h)
                    for x in range(w)
                ]
                pairs.append(
                    [[abs(y - v) < h and abs(x - u) < w for v, u in places] for y, x in places]
                )
        return torch.tensor(pairs)


class PatchMerging(nn.Module):
    """Four neighbours, concatenated in the order (0,0), (0,1), (1,0), (1,1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(4 * dim, 2 * dim)
        self.norm = nn.LayerNorm(4 * dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, 2C), odd sides padded."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, y::2, x_::2] for y in (0, 1) for x_ in (0, 1)]
        return self.proj(self.norm(torch.cat(corners, dim=-1)))


class Stage(nn.Module):
    """Blocks, then merging."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, 2C)."""
        return self.downsample(self.blocks(x))


class PlainWindowedAMixer(nn.Module):
    """AMixer-T, S, B."""

    def __init__(
        self,
        embed_dim,
        depths,
        num_heads,
        mode="linear-softmax",
        windows=((7, 7), (7, 7), (14, 14), (7, 7)),
        mask_shifted_windows=False,
        in_chans=3,
        num_classes=1000,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(in_chans, embed_dim, 4, 1e-5)
        self.layers = nn.Sequential()
        for stage, depth in enumerate(depths):
            dim, window, blocks = embed_dim * 2**stage, windows[stage], []
            for block in range(depth):
                shifted = stage < 2 and block % 2 == 1
                shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
                mask = mask_shifted_windows and shifted
                blocks.append(WindowBlock(dim, window, shift, num_heads[stage], mode, mask))
            self.layers.append(Stage(blocks, PatchMerging(dim) if stage < 3 else nn.Identity()))
        self.norm = nn.LayerNorm(8 * embed_dim, eps=1e-5)
        self.head = nn.Linear(8 * embed_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, num_classes)."""
        x = self.layers(self.patch_embed(images))
        return self.head(self.norm(x).flatten(1, 2).mean(dim=1))
