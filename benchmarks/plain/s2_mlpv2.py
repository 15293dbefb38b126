"""S2-MLPv2, computed as the paper and unofficial code have it: the tests' oracle and the baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.s2_mlpv2`. There is no stochastic depth. Activations are (B, H, W, C).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.pyramid import PlainPyramid

SIZES = {
    "s2_mlpv2_small_7": {
        "depths": (4, 3, 8, 3), "dims": (192, 384, 384, 384), "transitions": (1, 0, 0),
    },
    "s2_mlpv2_medium_7": {
        "depths": (4, 3, 14, 3), "dims": (256, 256, 512, 512), "transitions": (0, 1, 0),
    },
}  # fmt: skip


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainS2MLPv2(**{**SIZES[name], **settings})


def spatial_shift(z: Tensor, offsets: list[tuple[int, int]]) -> Tensor:
    """Quarter q of the channels read at offset q; the border reads itself for what is outside."""
    _, H, W, C = z.shape
    moved = []
    for quarter, (down, right) in enumerate(offsets):
        rows = torch.tensor([min(max(i + down, 0), H - 1) for i in range(H)], device=z.device)
        columns = torch.tensor([min(max(j + right, 0), W - 1) for j in range(W)], device=z.device)
        part = z[..., quarter * C // 4 : (quarter + 1) * C // 4]
        moved.append(part.index_select(1, rows).index_select(2, columns))
    return torch.cat(moved, dim=-1)


class SplitAttention(nn.Module):
    """Softmax over K parts of logits made from the sum of all parts and positions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim // 4, bias=False)
        self.fc2 = nn.Linear(dim // 4, 3 * dim, bias=False)

    def forward(self, parts: Tensor) -> Tensor:
        """(B, K, H, W, C) -> (B, H, W, C)."""
        B, K, _, _, C = parts.shape
        a = parts.sum(dim=(1, 2, 3))
        logits = self.fc2(F.gelu(self.fc1(a))).reshape(B, K, 1, 1, C)
        return (logits.softmax(dim=1) * parts).sum(dim=1)


class S2Block(nn.Module):
    """Expansion, shifts, split attention, projection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, 3 * dim)
        self.split_attention = SplitAttention(dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        C = x.shape[-1]
        z = self.expand(x)
        first = spatial_shift(z[..., :C], [(-1, 0), (1, 0), (0, -1), (0, 1)])
        second = spatial_shift(z[..., C : 2 * C], [(0, -1), (0, 1), (-1, 0), (1, 0)])
        return self.proj(self.split_attention(torch.stack([first, second, z[..., 2 * C :]], 1)))


class PlainS2MLPv2(PlainPyramid):
    """The classifier; arguments as `models.s2_mlpv2.S2MLPv2`."""

    def __init__(
        self, *, depths, dims, transitions, patch_size=7, img_size=224, in_chans=3,
        num_classes=1000,
    ) -> None:  # fmt: skip
        super().__init__(
            lambda stage, dim, grid: S2Block(dim), depths=depths, dims=dims,
            transitions=transitions, patch_size=patch_size, img_size=img_size, in_chans=in_chans,
            num_classes=num_classes,
        )  # fmt: skip
