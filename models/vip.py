"""Vision Permutator: rows and columns mixed by fixed matrices (Hou et al., TPAMI 2022).

Equations are the paper's, https://arxiv.org/abs/2106.12368; attribute names follow the authors'
checkpoints. Shapes: B batch, H W token grid, C channels in g groups of n.

The authors tie the number of groups to the grid (g = H = W), which makes every matrix C x C and
every other image size impossible. Here the groups stay as they are, so that a matrix that mixes H
tokens is (H n) x (H n); on the authors' grid that is their C x C.
"""

import math
from collections.abc import Sequence

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import Size
from models.layers.basic import Reweight
from models.layers.resampling import PositionIndexed, announce, resample
from models.registry import create, default_cfg
from models.trunks.pyramid import Pyramid, per_stage_numbers


class PermuteLinear(nn.Linear, PositionIndexed):
    """One matrix over the (token, channel of the group) pairs of a line, shared by all groups."""

    def __init__(self, length: int, group_width: int) -> None:
        super().__init__(length * group_width, length * group_width, bias=False)
        self.group_width = group_width

    def mix(self, x: Tensor) -> Tensor:
        """(B, lines, L, g, n), any strides, to the same shape, in memory (B, lines, g, L, n)."""
        flat = x.transpose(2, 3).flatten(3)  # (B, lines, g, L n)
        return self(flat).unflatten(3, (-1, self.group_width)).transpose(2, 3)

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Inputs are summed over positions; outputs are positions too."""
        weight = state_dict.get(f"{prefix}weight")
        n = self.group_width
        if weight is None or weight.shape == self.weight.shape:
            return
        if weight.ndim != 2 or weight.shape[0] != weight.shape[1] or weight.shape[0] % n != 0:
            return
        old, new = weight.shape[0] // n, self.in_features // n
        resampled = resample(weight.reshape(old, n, old, n), (0, 2), new) * (old / new)
        state_dict[f"{prefix}weight"] = resampled.reshape(self.weight.shape)
        announce(prefix, old=old, new=new)


class WeightedPermuteMlp(nn.Module):
    """Columns mixed, rows mixed and a channel map, summed with weights per image and channel."""

    def __init__(self, dim: int, grid: tuple[int, int], groups: int) -> None:
        super().__init__()
        if groups < 1 or dim % groups != 0:
            raise ValueError(
                f"segment_dim: {groups} channel groups do not divide the width {dim}; use a "
                f"divisor, such as {math.gcd(dim, max(groups, 1))}"
            )
        self.groups = groups
        self.mlp_h = PermuteLinear(grid[0], dim // groups)
        self.mlp_w = PermuteLinear(grid[1], dim // groups)
        self.mlp_c = nn.Linear(dim, dim, bias=False)
        self.reweight = Reweight(dim, 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        grouped = x.unflatten(3, (self.groups, -1))  # (B, H, W, g, n)
        branches = (
            self.mlp_h.mix(grouped.transpose(1, 2)).transpose(1, 2).flatten(3),
            self.mlp_w.mix(grouped).flatten(3),
            self.mlp_c(x),
        )
        return self.proj(self.reweight.combine(branches))


class ViP(Pyramid):
    """The Vision Permutator classifier.

    The arguments not listed are Pyramid's.

    Args:
        segment_dim: number g of channel groups per stage, a divisor of the width; one number for
            all stages.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        transitions: Sequence[bool],
        segment_dim: Sequence[int] | int,
        patch_size: int = 7,
        img_size: Size = 224,
        mlp_ratio: float = 3.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        groups = per_stage_numbers("segment_dim", segment_dim, dims)

        def make_mixer(stage: int, dim: int, grid: tuple[int, int]) -> nn.Module:
            return WeightedPermuteMlp(dim, grid, groups[stage])

        super().__init__(
            make_mixer,
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


default_cfgs = generate_default_cfgs(
    {
        "vip_s14": default_cfg(first_conv="patch_embed.proj"),
        "vip_s7": default_cfg(first_conv="patch_embed.proj"),
        "vip_m7": default_cfg(first_conv="patch_embed.proj"),
        "vip_l7": default_cfg(first_conv="patch_embed.proj", crop_pct=0.875),
    }
)


@register_model
def vip_s14(pretrained: bool = False, **overrides: object) -> nn.Module:
    """ViP-Small/14 of the paper: 30 M parameters, 16x16 tokens throughout."""
    settings: dict[str, object] = {
        "depths": (4, 3, 8, 3),
        "dims": (384, 384, 384, 384),
        "transitions": (False, False, False),
        "segment_dim": 16,
        "patch_size": 14,
    }
    return create(ViP, "vip_s14", pretrained, settings, overrides)


@register_model
def vip_s7(pretrained: bool = False, **overrides: object) -> nn.Module:
    """ViP-Small/7 of the paper: 25 M parameters."""
    settings: dict[str, object] = {
        "depths": (4, 3, 8, 3),
        "dims": (192, 384, 384, 384),
        "transitions": (True, False, False),
        "segment_dim": (32, 16, 16, 16),
    }
    return create(ViP, "vip_s7", pretrained, settings, overrides)


@register_model
def vip_m7(pretrained: bool = False, **overrides: object) -> nn.Module:
    """ViP-Medium/7 of the paper: 55 M parameters."""
    settings: dict[str, object] = {
        "depths": (4, 3, 14, 3),
        "dims": (256, 256, 512, 512),
        "transitions": (False, True, False),
        "segment_dim": (32, 32, 16, 16),
    }
    return create(ViP, "vip_m7", pretrained, settings, overrides)


@register_model
def vip_l7(pretrained: bool = False, **overrides: object) -> nn.Module:
    """ViP-Large/7 of the paper: 88 M parameters."""
    settings: dict[str, object] = {
        "depths": (8, 8, 16, 4),
        "dims": (256, 512, 512, 512),
        "transitions": (True, False, False),
        "segment_dim": (32, 16, 16, 16),
    }
    return create(ViP, "vip_l7", pretrained, settings, overrides)
