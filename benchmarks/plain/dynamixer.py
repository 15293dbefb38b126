"""DynaMixer, computed as the paper writes it: the tests' oracle and the benchmark's baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.dynamixer`. Shapes: B images, L tokens of a line, C channels, S segments.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain.pyramid import PlainPyramid, ThreeBranches

SIZES = {
    "dynamixer_s": {
        "depths": (4, 3, 8, 3), "dims": (192, 384, 384, 384), "transitions": (1, 0, 0),
        "segments": (8, 16, 16, 16),
    },
    "dynamixer_m": {
        "depths": (4, 3, 14, 3), "dims": (256, 256, 512, 512), "transitions": (0, 1, 0),
        "segments": (8, 8, 16, 16),
    },
    "dynamixer_l": {
        "depths": (8, 8, 16, 4), "dims": (256, 512, 512, 512), "transitions": (1, 0, 0),
        "segments": (8, 16, 16, 16), "reduced_dim": 8,
    },
    "dynamixer_nano": {
        "depths": (2, 2), "dims": (64, 128), "transitions": (1,), "segments": (4, 8),
        "patch_size": 4, "img_size": 32, "num_classes": 10,
    },
}  # fmt: skip


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainDynaMixer(**{**SIZES[name], **settings})


class Op(nn.Module):
    """Y^(s) = P^(s) X^(s) for every segment s, then `out`; P comes from `generator`."""

    def __init__(self, dim, length, segments, reduced_dim, generator) -> None:
        super().__init__()
        self.segments, self.length, self.generator = segments, length, generator
        if generator == "dynamic":
            self.compress = nn.Linear(dim, segments * reduced_dim)
            self.generate = nn.Linear(length * reduced_dim, length * length)
        elif generator == "dense":
            self.compress = nn.Linear(dim, dim)
            self.generate = nn.Linear(dim, segments * length)
        else:
            self.matrices = nn.Parameter(0.02 * torch.randn(segments, length, length))
        self.out = nn.Linear(dim, dim)

    def mixing(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, S, source, target), normalised over the sources."""
        B, L, S = x.shape[0], self.length, self.segments
        if self.generator == "dynamic":
            reduced = self.compress(x).reshape(B, L, S, -1).permute(0, 2, 1, 3)  # (B, S, L, d)
            logits = self.generate(reduced.reshape(B, S, -1)).reshape(B, S, L, L)
        elif self.generator == "dense":
            logits = self.generate(F.relu(self.compress(x))).reshape(B, L, S, L)
            logits = logits.permute(0, 2, 3, 1)  # each target's own token scores the sources
        else:
            logits = self.matrices.permute(0, 2, 1).expand(B, S, L, L)
        return logits.softmax(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> the same shape."""
        B, L, C = x.shape
        segments = x.reshape(B, L, self.segments, -1).permute(0, 2, 3, 1)  # (B, S, C/S, source)
        mixed = segments @ self.mixing(x)  # (B, S, C/S, target)
        return self.out(mixed.permute(0, 3, 1, 2).reshape(B, L, C))


class Mix(ThreeBranches):
    """h, w and c of the paper's figure."""

    def __init__(self, dim, make_op, grid, column, row, channel, reweight, shared) -> None:
        super().__init__(dim, column + row + channel, reweight)
        self.mix_h = make_op(grid[0]) if column else None
        self.mix_w = make_op(grid[1]) if row and not shared else None
        self.mlp_c = nn.Linear(dim, dim, bias=False) if channel else None
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        branches = []
        if self.mix_h is not None:
            branches.append(along_rows(self.mix_h, x.transpose(1, 2)).transpose(1, 2))
        if self.mix_w is not None or self.shared:
            branches.append(along_rows(self.mix_h if self.shared else self.mix_w, x))
        if self.mlp_c is not None:
            branches.append(self.mlp_c(x))
        return self.fuse(branches)


def along_rows(op: nn.Module, x: Tensor) -> Tensor:
    """Apply `op` to each row of (B, rows, L, C) by itself."""
    return op(x.reshape(-1, *x.shape[2:])).reshape(x.shape)


class PlainDynaMixer(PlainPyramid):
    """The classifier; arguments as `models.dynamixer.DynaMixer`."""

    def __init__(
        self, *, depths, dims, transitions, segments, reduced_dim=2, generator="dynamic",
        column=True, row=True, channel=True, reweight=True, shared=False, patch_size=7,
        img_size=224, in_chans=3, num_classes=1000,
    ) -> None:  # fmt: skip
        if isinstance(segments, int):
            segments = (segments,) * len(dims)

        def make_mixer(stage, dim, grid):
            def make_op(length):
                return Op(dim, length, segments[stage], reduced_dim, generator)

            return Mix(dim, make_op, grid, column, row, channel, reweight, shared)

        super().__init__(
            make_mixer, depths=depths, dims=dims, transitions=transitions, patch_size=patch_size,
            img_size=img_size, in_chans=in_chans, num_classes=num_classes,
        )  # fmt: skip
