"""Hire-MLP: regions of a line mix inside, then lines move on by a step (Guo et al., CVPR 2022).

Definitions are those of the paper, https://arxiv.org/abs/2108.13341, and its code; attribute names
follow the authors' checkpoints, in which the linear layers are 1x1 convolutions. Everything that
wraps around is one cut of the line continued without end. Shapes: B batch, H W token grid,
C channels, p tokens of a region.
"""

from collections.abc import Mapping, Sequence
from operator import index

import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import Size, check_matching, check_ratio, check_stages
from models.layers.basic import NormedPatchEmbed, Reweight, init_linear
from models.layers.layouts import as_matrices
from models.layers.norms import BatchNorm
from models.layers.shifts import periodic
from models.registry import create, default_cfg
from models.trunks.overlapping_pyramid import OverlappingPyramid, stage_sides
from models.trunks.pyramid import Block


class Embed(NormedPatchEmbed):
    """Convolution, BatchNorm, ReLU."""

    def __init__(
        self, in_chans: int, dim: int, patch_size: int, *, stride: int, padding: int
    ) -> None:
        norm = BatchNorm(dim)
        super().__init__(in_chans, dim, patch_size, norm, stride=stride, padding=padding)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, dim)."""
        return F.relu(super().forward(images))


class EmbedBetween(Embed):
    """The same applied to (B, H, W, C)."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, dim)."""
        return super().forward(images.permute(0, 3, 1, 2))


class HireMix(nn.Module):
    """Regions of columns mixed, regions of rows mixed and a channel map, summed with weights.

    Args:
        dim: channels C.
        region: tokens p of a region.
        step: places by which a line moves on before it is cut into regions, and back after it.
    """

    def __init__(self, dim: int, region: int, step: int) -> None:
        super().__init__()
        self.region = region
        self.step = step
        self.mlp_h1 = nn.Linear(region * dim, dim // 2, bias=False)
        self.mlp_h1_norm = BatchNorm(dim // 2)
        self.mlp_h2 = nn.Linear(dim // 2, region * dim)
        self.mlp_w1 = nn.Linear(region * dim, dim // 2, bias=False)
        self.mlp_w1_norm = BatchNorm(dim // 2)
        self.mlp_w2 = nn.Linear(dim // 2, region * dim)
        self.mlp_c = nn.Linear(dim, dim)
        self.reweight = Reweight(dim, 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        columns = x.transpose(1, 2)
        h = self._mix(columns, self.mlp_h1, self.mlp_h1_norm, self.mlp_h2).transpose(1, 2)
        w = self._mix(x, self.mlp_w1, self.mlp_w1_norm, self.mlp_w2)
        return self.proj(self.reweight.combine([h, w, self.mlp_c(x)]))

    def _mix(self, lines: Tensor, fc1: nn.Linear, norm: nn.Module, fc2: nn.Linear) -> Tensor:
        """(B, lines, L, C) -> the same shape; the last region is filled from the line's start."""
        p, L, C = self.region, index(lines.shape[2]), lines.shape[3]
        moved = periodic(lines, -self.step, L + -L % p, dim=2)
        regions = moved.unflatten(2, (-1, p)).flatten(3)  # (B, lines, R, p C)
        # The authors number the entries of a region c p + q, here they lie at q C + c.
        weight = fc1.weight.unflatten(1, (C, p)).transpose(1, 2).flatten(1)
        hidden = F.relu(norm(F.linear(regions, weight)))
        weight = fc2.weight.unflatten(0, (C, p)).transpose(0, 1).flatten(0, 1)
        mixed = F.linear(hidden, weight, fc2.bias.unflatten(0, (C, p)).t().flatten())
        mixed = mixed.unflatten(3, (p, C)).flatten(2, 3)  # (B, lines, R p, C)
        return periodic(mixed.narrow(2, 0, L), self.step, L, dim=2)


class HireMLP(OverlappingPyramid):
    """The Hire-MLP classifier.

    The arguments not listed are OverlappingPyramid's.

    Args:
        regions: tokens p of a region per stage; a line must be at least as long as what it lacks to
            a multiple of p.
        steps: places per stage by which each block's lines move on further than the block before.
        cycles: blocks per stage after which the moves start again from 0.
        mlp_ratio: hidden width of the channel MLP in multiples of the stage's width.
        img_size: height and width of the images meant; every size from 19x19 on works.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        regions: Sequence[int] = (4, 3, 3, 2),
        steps: Sequence[int] = (2, 2, 1, 1),
        cycles: Sequence[int] = (2, 2, 3, 2),
        mlp_ratio: float = 4.0,
        img_size: Size = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        check_stages(depths=depths, dims=dims, regions=regions, steps=steps, cycles=cycles)
        check_matching(depths=depths, dims=dims, regions=regions, steps=steps, cycles=cycles)
        check_ratio("mlp_ratio", mlp_ratio, width=min(dims))
        self.regions = tuple(regions)

        def make_block(stage: int, block: int, drop_path: float | None) -> nn.Module:
            step = block % cycles[stage] * steps[stage]
            mixer = HireMix(dims[stage], regions[stage], step)
            return Block(dims[stage], mixer, mlp_ratio, drop_path, norm1=BatchNorm, norm2=BatchNorm)

        super().__init__(
            make_block,
            make_embed=Embed,
            make_downsample=EmbedBetween,
            norm=BatchNorm,
            init=init_all,
            depths=depths,
            dims=dims,
            img_size=img_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )

    def check_size(self, height: int, width: int) -> None:
        """See that every stage's lines can be filled up to whole regions."""
        super().check_size(height, width)
        sides = [stage_sides(pixels, len(self.regions)) for pixels in (height, width)]
        for stage, region in enumerate(self.regions):
            for side in (sides[0][stage], sides[1][stage]):
                if -side % region > side:
                    raise ValueError(
                        f"an image of {height}x{width} pixels is too small: in stage {stage + 1} a "
                        f"line of {side} tokens cannot be filled up to a multiple of {region} with "
                        "its own start; resize the images"
                    )


def init_all(module: nn.Module) -> None:
    """Linear layers and convolutions: truncated normal with std 0.02, zero bias."""
    init_linear(module)
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The authors' weights for `model`: 1x1 convolutions as matrices."""
    return as_matrices(state_dict)


_NARROW, _WIDE = (64, 128, 320, 512), (96, 192, 384, 768)
_SETTINGS: dict[str, dict[str, object]] = {
    "hire_mlp_tiny": {"depths": (2, 2, 4, 2), "dims": _NARROW},
    "hire_mlp_small": {"depths": (3, 4, 10, 3), "dims": _NARROW},
    "hire_mlp_base": {"depths": (4, 6, 24, 3), "dims": _NARROW},
    "hire_mlp_large": {"depths": (4, 6, 24, 3), "dims": _WIDE},
}

# The authors evaluate at 224 of 256 pixels, 0.875, whatever their default_cfg says.
default_cfgs = generate_default_cfgs(
    {
        name: default_cfg(first_conv="patch_embed.proj", crop_pct=0.875, fixed_input_size=False)
        for name in _SETTINGS
    }
)


def _create(variant: str, pretrained: bool, overrides: dict[str, object]) -> nn.Module:
    settings = {**_SETTINGS[variant], "pretrained_filter_fn": checkpoint_filter_fn}
    return create(HireMLP, variant, pretrained, settings, overrides)


@register_model
def hire_mlp_tiny(pretrained: bool = False, **overrides: object) -> nn.Module:
    """Hire-MLP-Tiny of the paper: 18 M parameters."""
    return _create("hire_mlp_tiny", pretrained, overrides)


@register_model
def hire_mlp_small(pretrained: bool = False, **overrides: object) -> nn.Module:
    """Hire-MLP-Small of the paper: 33 M parameters."""
    return _create("hire_mlp_small", pretrained, overrides)


@register_model
def hire_mlp_base(pretrained: bool = False, **overrides: object) -> nn.Module:
    """Hire-MLP-Base of the paper: 58 M parameters."""
    return _create("hire_mlp_base", pretrained, overrides)


@register_model
def hire_mlp_large(pretrained: bool = False, **overrides: object) -> nn.Module:
    """Hire-MLP-Large of the paper: 96 M parameters."""
    return _create("hire_mlp_large", pretrained, overrides)
