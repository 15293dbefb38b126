"""Vision Permutator, computed as the paper writes it: the tests' oracle and the baseline.

Nothing here is arranged for speed and nothing is imported from `models`. The keys of the state_dict
are those of `models.vip`. Shapes: B images, H W grid, C channels, g groups of n channels.
"""

from torch import Tensor, nn

from benchmarks.plain.pyramid import PlainPyramid, ThreeBranches

SIZES = {
    "vip_s14": {
        "depths": (4, 3, 8, 3), "dims": (384, 384, 384, 384), "transitions": (0, 0, 0),
        "segment_dim": (16, 16, 16, 16), "patch_size": 14,
    },
    "vip_s7": {
        "depths": (4, 3, 8, 3), "dims": (192, 384, 384, 384), "transitions": (1, 0, 0),
        "segment_dim": (32, 16, 16, 16),
    },
    "vip_m7": {
        "depths": (4, 3, 14, 3), "dims": (256, 256, 512, 512), "transitions": (0, 1, 0),
        "segment_dim": (32, 32, 16, 16),
    },
    "vip_l7": {
        "depths": (8, 8, 16, 4), "dims": (256, 512, 512, 512), "transitions": (1, 0, 0),
        "segment_dim": (32, 16, 16, 16),
    },
}  # fmt: skip


def plain(name: str, **settings: object) -> nn.Module:
    """The variant `name`; `settings` are constructor arguments to change."""
    return PlainViP(**{**SIZES[name], **settings})


class PermuteMlp(ThreeBranches):
    """The paper's algorithm 1 with weighted branches."""

    def __init__(self, dim, grid, groups) -> None:
        super().__init__(dim, 3)
        n = dim // groups
        self.groups = groups
        self.mlp_h = nn.Linear(grid[0] * n, grid[0] * n, bias=False)
        self.mlp_w = nn.Linear(grid[1] * n, grid[1] * n, bias=False)
        self.mlp_c = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        B, H, W, C = x.shape
        g, n = self.groups, C // self.groups
        grouped = x.reshape(B, H, W, g, n)
        h = self.mlp_h(grouped.permute(0, 3, 2, 1, 4).reshape(B, g, W, H * n))
        h = h.reshape(B, g, W, H, n).permute(0, 3, 2, 1, 4).reshape(B, H, W, C)
        w = self.mlp_w(grouped.permute(0, 1, 3, 2, 4).reshape(B, H, g, W * n))
        w = w.reshape(B, H, g, W, n).permute(0, 1, 3, 2, 4).reshape(B, H, W, C)
        return self.fuse([h, w, self.mlp_c(x)])


class PlainViP(PlainPyramid):
    """The classifier; arguments as `models.vip.ViP`."""

    def __init__(
        self, *, depths, dims, transitions, segment_dim, patch_size=7, img_size=224, in_chans=3,
        num_classes=1000,
    ) -> None:  # fmt: skip
        def make_mixer(stage, dim, grid):
            return PermuteMlp(dim, grid, segment_dim[stage])

        super().__init__(
            make_mixer, depths=depths, dims=dims, transitions=transitions, patch_size=patch_size,
            img_size=img_size, in_chans=in_chans, num_classes=num_classes,
        )  # fmt: skip
