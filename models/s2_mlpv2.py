"""S2-MLPv2: quarters of the channels moved one place in four directions (Yu et al., 2021).

After the paper, https://arxiv.org/abs/2108.01072, and unofficial implementations of it, since its
authors published no code: parameters and multiply-adds fit the paper's figures, with Vision
Permutator's trunk and a split attention of a quarter of the width. Not known are the biases of that
attention (here none) and which axis the first branch starts with. Shapes: B batch, H W token grid,
C channels.
"""

from collections.abc import Sequence

import torch
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import Size
from models.layers.basic import Reweight, weighted_sum
from models.layers.shifts import step
from models.registry import create, default_cfg
from models.trunks.pyramid import Pyramid


class SpatialShift(nn.Module):
    """Two moved thirds of a channel map and one that stays, weighted per image and channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"dims: a quarter moves in each direction; 4 does not divide {dim}")
        self.expand = nn.Linear(dim, 3 * dim)
        self.split_attention = Reweight(dim, 3, bias=False, branch_major=True)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        first, second, third = self.expand(x).chunk(3, dim=3)
        branches = (moved(first, (1, 2)), moved(second, (2, 1)), third)
        # Sums over all tokens are large, and so are the logits made of them: rounded once only.
        precise = torch.promote_types(x.dtype, torch.float32)
        sums = [branch.sum(dim=(1, 2), dtype=precise) for branch in branches]
        weights = self.split_attention((sums[0] + sums[1] + sums[2]).to(x.dtype))
        return self.proj(weighted_sum(branches, weights))


def moved(x: Tensor, dims: tuple[int, int]) -> Tensor:
    """Quarters of the channels at the place after and before theirs along one axis, then another.

    At the border the entry that would have to come from outside keeps its own value.
    """
    forth, back, forth_across, back_across = x.chunk(4, dim=3)
    parts = [step(forth, 1, dims[0]), step(back, -1, dims[0])]
    parts += [step(forth_across, 1, dims[1]), step(back_across, -1, dims[1])]
    return torch.cat(parts, dim=3)


class S2MLPv2(Pyramid):
    """The S2-MLPv2 classifier; the arguments are Pyramid's, but every size of images works."""

    def __init__(
        self,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        transitions: Sequence[bool],
        patch_size: int = 7,
        img_size: Size = 224,
        mlp_ratio: float = 3.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            lambda stage, dim, grid: SpatialShift(dim),
            depths=depths,
            dims=dims,
            transitions=transitions,
            patch_size=patch_size,
            img_size=img_size,
            mlp_ratio=mlp_ratio,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        self.least = patch_size * 2 ** sum(map(bool, transitions))

    def check_size(self, height: int, width: int) -> None:
        """See that something is left of the image in every stage."""
        if min(height, width) < self.least:
            raise ValueError(
                f"an image of {height}x{width} pixels is too small: patches and halvings need at "
                f"least {self.least}x{self.least}; resize the images"
            )


_SETTINGS: dict[str, dict[str, object]] = {
    "s2_mlpv2_small_7": {
        "depths": (4, 3, 8, 3),
        "dims": (192, 384, 384, 384),
        "transitions": (True, False, False),
    },
    "s2_mlpv2_medium_7": {
        "depths": (4, 3, 14, 3),
        "dims": (256, 256, 512, 512),
        "transitions": (False, True, False),
    },
}

default_cfgs = generate_default_cfgs(
    {name: default_cfg(first_conv="patch_embed.proj", fixed_input_size=False) for name in _SETTINGS}
)


def _create(variant: str, pretrained: bool, overrides: dict[str, object]) -> nn.Module:
    return create(S2MLPv2, variant, pretrained, _SETTINGS[variant], overrides)


@register_model
def s2_mlpv2_small_7(pretrained: bool = False, **overrides: object) -> nn.Module:
    """After the paper; counts fit, authors' code not published: Small/7, 25 M parameters."""
    return _create("s2_mlpv2_small_7", pretrained, overrides)


@register_model
def s2_mlpv2_medium_7(pretrained: bool = False, **overrides: object) -> nn.Module:
    """After the paper; counts fit, authors' code not published: Medium/7, 55 M parameters."""
    return _create("s2_mlpv2_medium_7", pretrained, overrides)
