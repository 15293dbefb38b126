"""CycleMLP: every channel is read a step up, down, left or right (Chen et al., ICLR 2022).

Definitions are those of the paper, https://arxiv.org/abs/2107.10224, and its code; attribute names
follow the authors' checkpoints. The authors run the cycle layer as a deformable convolution with
whole-numbered offsets; here channels are moved and one matrix product follows, which is the same
and needs no kernel of its own. Shapes: B batch, H W token grid, C channels.
"""

from collections.abc import Mapping, Sequence

import torch
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import Size, check_matching, check_ratio, check_stages
from models.layers.basic import Downsample, PatchEmbed, Reweight, init_linear
from models.layers.layouts import as_matrices
from models.layers.shifts import shift
from models.registry import create, default_cfg
from models.trunks.merging_pyramid import AnySizePyramid
from models.trunks.overlapping_pyramid import OverlappingPyramid
from models.trunks.pyramid import Block

ROWS, COLUMNS = 1, 2
"""Dimensions of (B, H, W, C): a move along the second is one to the side."""


class CycleLinear(nn.Linear):
    """Linear on channels that are read 0, 1 and -1 places further along one axis, in turn.

    Y[o] = b[o] + sum over c of W[o, c] X[c] of the token at distance ((c + 1) mod 3) - 1; outside
    the grid are zeros.
    """

    def __init__(self, dim: int, axis: int) -> None:
        super().__init__(dim, dim)
        self.axis = axis

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """(B, H, W, C) -> the same shape."""
        turn = torch.arange(input.shape[-1], device=input.device) % 3
        # Selecting rather than taking slices of every third channel: the compiler makes one pass of
        # it, that reads memory in order.
        beyond, before = shift(input, -1, self.axis), shift(input, 1, self.axis)
        moved = torch.where(turn == 1, beyond, torch.where(turn == 2, before, input))
        return super().forward(moved)


class CycleMix(nn.Module):
    """Two cycle layers and a channel map, summed, with weights per image and channel or without.

    The channel map has a bias where there are no weights.
    """

    def __init__(self, dim: int, *, reweight: bool) -> None:
        super().__init__()
        self.mlp_c = nn.Linear(dim, dim, bias=not reweight)
        self.sfc_h = CycleLinear(dim, COLUMNS)  # the authors call the move along a row "h"
        self.sfc_w = CycleLinear(dim, ROWS)
        self.reweight = Reweight(dim, 3) if reweight else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        h, w, c = self.sfc_h(x), self.sfc_w(x), self.mlp_c(x)
        return self.proj(h + w + c if self.reweight is None else self.reweight.combine([h, w, c]))


class CycleMLP(OverlappingPyramid):
    """The CycleMLP classifier of overlapping patches, B1 to B5.

    The arguments not listed are OverlappingPyramid's.

    Args:
        mlp_ratios: hidden width of the channel MLP per stage, in multiples of the width.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        mlp_ratios: Sequence[float],
        img_size: Size = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        check_stages(dims=dims)
        check_matching(dims=dims, mlp_ratios=mlp_ratios)
        for dim, ratio in zip(dims, mlp_ratios, strict=True):
            check_ratio("mlp_ratios", ratio, width=dim)

        def make_block(stage: int, block: int, drop_path: float | None) -> nn.Module:
            dim = dims[stage]
            return Block(dim, CycleMix(dim, reweight=True), mlp_ratios[stage], drop_path)

        super().__init__(
            make_block,
            make_embed=PatchEmbed,
            make_downsample=Downsample,
            norm=nn.LayerNorm,
            init=init_linear,
            depths=depths,
            dims=dims,
            img_size=img_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )


class MergingCycleMLP(AnySizePyramid):
    """The CycleMLP classifier on Swin's skeleton, T, S and B: after the paper, for want of code.

    The paper's figures fit three branches that are added without weights. They cannot tell which
    layers have a bias; with one in all of the mixing, parameters come closest. The arguments are
    AnySizePyramid's.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: Sequence[int],
        patch_size: int = 4,
        img_size: Size = 224,
        mlp_ratio: float = 4.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        def make_block(dim: int, drop_path: float | None) -> nn.Module:
            return Block(dim, CycleMix(dim, reweight=False), mlp_ratio, drop_path)

        super().__init__(
            make_block,
            norm=nn.LayerNorm,
            init=init_linear,
            embed_dim=embed_dim,
            depths=depths,
            patch_size=patch_size,
            mlp_ratio=mlp_ratio,
            img_size=img_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The authors' weights for `model`: without the fixed offsets, 1x1 convolutions as matrices."""
    return as_matrices({k: w for k, w in state_dict.items() if not k.endswith(".offset")})


_NARROW, _WIDE = (64, 128, 320, 512), (96, 192, 384, 768)
_SETTINGS: dict[str, dict[str, object]] = {
    "cyclemlp_b1": {"dims": _NARROW, "depths": (2, 2, 4, 2), "mlp_ratios": (4, 4, 4, 4)},
    "cyclemlp_b2": {"dims": _NARROW, "depths": (2, 3, 10, 3), "mlp_ratios": (4, 4, 4, 4)},
    "cyclemlp_b3": {"dims": _NARROW, "depths": (3, 4, 18, 3), "mlp_ratios": (8, 8, 4, 4)},
    "cyclemlp_b4": {"dims": _NARROW, "depths": (3, 8, 27, 3), "mlp_ratios": (8, 8, 4, 4)},
    "cyclemlp_b5": {"dims": _WIDE, "depths": (3, 4, 24, 3), "mlp_ratios": (4, 4, 4, 4)},
    "cyclemlp_t": {"depths": (2, 2, 6, 2), "embed_dim": 96},
    "cyclemlp_s": {"depths": (2, 2, 18, 2), "embed_dim": 96},
    "cyclemlp_b": {"depths": (2, 2, 18, 2), "embed_dim": 128},
}

AUTHORS_NAMES: dict[str, tuple[str, dict[str, object]]] = {
    **{f"CycleMLP_B{number}": (f"cyclemlp_b{number}", {}) for number in range(1, 6)},
    **{f"CycleMLP_{size}": (f"cyclemlp_{size[0]}", {}) for size in ("tiny", "small", "base")},
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
    is_overlapping = "dims" in settings
    model_class = CycleMLP if is_overlapping else MergingCycleMLP
    return create(model_class, variant, pretrained, settings, overrides)


@register_model
def cyclemlp_b1(pretrained: bool = False, **overrides: object) -> nn.Module:
    """CycleMLP-B1 of the paper: 15 M parameters."""
    return _create("cyclemlp_b1", pretrained, overrides)


@register_model
def cyclemlp_b2(pretrained: bool = False, **overrides: object) -> nn.Module:
    """CycleMLP-B2 of the paper: 27 M parameters."""
    return _create("cyclemlp_b2", pretrained, overrides)


@register_model
def cyclemlp_b3(pretrained: bool = False, **overrides: object) -> nn.Module:
    """CycleMLP-B3 of the paper: 38 M parameters."""
    return _create("cyclemlp_b3", pretrained, overrides)


@register_model
def cyclemlp_b4(pretrained: bool = False, **overrides: object) -> nn.Module:
    """CycleMLP-B4 of the paper: 52 M parameters."""
    return _create("cyclemlp_b4", pretrained, overrides)


@register_model
def cyclemlp_b5(pretrained: bool = False, **overrides: object) -> nn.Module:
    """CycleMLP-B5 of the paper: 76 M parameters."""
    return _create("cyclemlp_b5", pretrained, overrides)


@register_model
def cyclemlp_t(pretrained: bool = False, **overrides: object) -> nn.Module:
    """After the paper; counts fit, authors' code not published: CycleMLP-T, 28 M parameters."""
    return _create("cyclemlp_t", pretrained, overrides)


@register_model
def cyclemlp_s(pretrained: bool = False, **overrides: object) -> nn.Module:
    """After the paper; counts fit, authors' code not published: CycleMLP-S, 50 M parameters."""
    return _create("cyclemlp_s", pretrained, overrides)


@register_model
def cyclemlp_b(pretrained: bool = False, **overrides: object) -> nn.Module:
    """After the paper; counts fit, authors' code not published: CycleMLP-B, 88 M parameters."""
    return _create("cyclemlp_b", pretrained, overrides)
