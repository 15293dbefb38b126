"""GFNet: tokens mixed by global filters, in the frequency domain (Rao et al., NeurIPS 2021).

Equations are the paper's, https://arxiv.org/abs/2107.00645; attribute names follow the authors'
checkpoints. A block has one residual for the filter and the MLP together. Two forms: one grid of
patches throughout, and a pyramid of four grids, whose checkpoints number stages too.
Shapes: B images, H W grid, C channels.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import (
    Size,
    check_counts,
    check_matching,
    check_ratio,
    check_stages,
)
from models.layers.basic import (
    ChannelMlp,
    Downsample,
    DropPath,
    PatchEmbed,
    drop_path_rates,
    init_linear,
)
from models.layers.classifier import FixedSizeClassifier
from models.layers.global_filter import GlobalFilter
from models.layers.resampling import PositionIndexed, announce, resize_grid
from models.registry import create, default_cfg
from models.trunks.pyramid import token_grids

NORM_EPS = 1e-6


class Block(nn.Module):
    """x + gamma * mlp(norm(filter(norm(x)))); without a layer scale there is no gamma."""

    def __init__(
        self,
        dim: int,
        grid: tuple[int, int],
        *,
        mlp_ratio: float,
        drop_path: float | None,
        layer_scale: float | None,
    ) -> None:
        super().__init__()
        self.gamma = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.filter = GlobalFilter(dim, grid)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = ChannelMlp(dim, int(dim * mlp_ratio))
        self.drop_path = nn.Identity() if drop_path is None else DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        branch = self.mlp(self.norm2(self.filter(self.norm1(x))))
        if self.gamma is None:
            return x + self.drop_path(branch)
        # Dropping the scale of a branch drops the branch, without a pass over it.
        return torch.addcmul(x, branch, self.drop_path(self.gamma.expand(x.shape[0], 1, 1, -1)))


class GFNet(FixedSizeClassifier, PositionIndexed):
    """The GFNet classifier.

    Args:
        dims: width C of each stage; every stage has half the grid of the one before.
        depths: number of blocks of each stage.
        patch_size: side of the square patches in pixels.
        mlp_ratio: hidden width of the MLP in multiples of the stage's width.
        layer_scale: initial gamma of the residual branches, None for no such factor.
        img_size: height and width of the input, or one number for both; it takes this size only.
        in_chans: channels of the input images.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: 'avg' (mean over tokens), or '' (none: the head acts on each token).
        drop_rate: dropout before the classifier.
        drop_path_rate: of the last block; the rates rise linearly from 0.
    """

    def __init__(
        self,
        *,
        dims: Sequence[int],
        depths: Sequence[int],
        patch_size: int,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = None,
        img_size: Size = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            img_size=img_size, in_chans=in_chans, num_classes=num_classes, global_pool=global_pool
        )
        check_stages(dims=dims, depths=depths)
        check_matching(dims=dims, depths=depths)
        check_counts(patch_size=patch_size)
        check_ratio("mlp_ratio", mlp_ratio, width=min(dims))
        grids = token_grids(self.img_size, patch_size, (True,) * (len(dims) - 1))
        self.grid = grids[0]
        self.pos_embed = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], dims[0]))
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))

        def make_block(dim: int, grid: tuple[int, int]) -> Block:
            rate = next(rates)
            return Block(
                dim,
                grid,
                mlp_ratio=mlp_ratio,
                drop_path=rate if drop_path_rate > 0 else None,
                layer_scale=layer_scale,
            )

        stems = [PatchEmbed(in_chans, dims[0], patch_size)]
        stems += [Downsample(dim, wider, 2) for dim, wider in pairwise(dims)]
        stages = [
            nn.Sequential(*(make_block(dim, grid) for _ in range(depth)))
            for dim, depth, grid in zip(dims, depths, grids, strict=True)
        ]
        # The authors' names have the number of a stage only where there are several.
        several = len(dims) > 1
        self.patch_embed = nn.ModuleList(stems) if several else stems[0]
        self.blocks = nn.ModuleList(stages) if several else stages[0]
        self.norm = nn.LayerNorm(dims[-1], eps=NORM_EPS)
        self.apply(init_linear)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.add_head(dims[-1], drop_rate)

    def init_head(self, head: nn.Linear) -> None:
        """As all linear layers."""
        init_linear(head)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, C), normalised tokens of the last stage.

        Raises:
            ValueError: if the images are not of the size that the model was built for.
        """
        self.check_images(images)
        x = images
        for number, (stem, blocks) in enumerate(self._stages()):
            x = stem(x)
            if number == 0:
                x = x + self.pos_embed.unflatten(1, self.grid)
            for block in blocks:
                x = self.run_block(block, x)
        return self.norm(x)

    def _stages(self) -> list[tuple[nn.Module, Iterable[nn.Module]]]:
        stems, stages = self.patch_embed, self.blocks
        if isinstance(stems, nn.ModuleList):
            return list(zip(stems, cast("Iterable[Iterable[nn.Module]]", stages), strict=True))
        return [(stems, stages)]

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Resize `pos_embed` of another grid, whose rows are those of the first block's filter."""
        stored = state_dict.get(f"{prefix}pos_embed")
        first = next(key for key, _ in self.named_parameters() if key.endswith("complex_weight"))
        response = state_dict.get(f"{prefix}{first}")
        if stored is None or response is None or stored.ndim != 3 or response.ndim != 4:
            return
        rows, tokens = max(response.shape[0], 1), stored.shape[1]
        old = (rows, tokens // rows)
        if old == self.grid or old[0] * old[1] != tokens or response.shape[1] != old[1] // 2 + 1:
            return
        grid = stored[0].reshape(*old, -1)
        state_dict[f"{prefix}pos_embed"] = resize_grid(grid, self.grid).flatten(0, 1)[None]
        announce(f"{prefix}pos_embed", old=tokens, new=self.grid[0] * self.grid[1])

    def no_weight_decay(self) -> set[str]:
        """Parameters with two or more dimensions that take no decay."""
        return {"pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Patterns that sort parameters into layers, for layer-wise learning rates."""
        norm = (r"^norm", (99999,))
        if not isinstance(self.patch_embed, nn.ModuleList):
            return {
                "stem": r"^patch_embed|^pos_embed",
                "blocks": [(r"^blocks\.(\d+)", None), norm],
            }
        within = r"^blocks\.(\d+)" if coarse else r"^blocks\.(\d+)\.(\d+)"
        return {
            "stem": r"^patch_embed\.0|^pos_embed",
            # A downsampling comes before the blocks of its stage.
            "blocks": [(r"^patch_embed\.(\d+)", None if coarse else (-1,)), (within, None), norm],
        }


AUTHORS_NAMES = {
    f"gfnet-{size}": (f"gfnet_{size.replace('-', '_')}", {})
    for size in ("ti", "xs", "s", "b", "h-ti", "h-s", "h-b")
}

default_cfgs = generate_default_cfgs(
    {
        "gfnet_ti": default_cfg(first_conv="patch_embed.proj", crop_pct=0.875),
        "gfnet_xs": default_cfg(first_conv="patch_embed.proj", crop_pct=0.875),
        "gfnet_s": default_cfg(first_conv="patch_embed.proj", crop_pct=0.875),
        "gfnet_b": default_cfg(first_conv="patch_embed.proj", crop_pct=0.875),
        "gfnet_h_ti": default_cfg(first_conv="patch_embed.0.proj", crop_pct=0.875),
        "gfnet_h_s": default_cfg(first_conv="patch_embed.0.proj", crop_pct=0.875),
        "gfnet_h_b": default_cfg(first_conv="patch_embed.0.proj", crop_pct=0.875),
    }
)


@register_model
def gfnet_ti(pretrained: bool = False, **overrides: object) -> nn.Module:
    """GFNet-Ti of the paper: 7 M parameters; the authors fix the drop path rate of all."""
    settings: dict[str, object] = {"dims": (256,), "depths": (12,), "patch_size": 16}
    return create(GFNet, "gfnet_ti", pretrained, settings, overrides)


@register_model
def gfnet_xs(pretrained: bool = False, **overrides: object) -> nn.Module:
    """GFNet-XS of the paper: 16 M parameters."""
    settings: dict[str, object] = {"dims": (384,), "depths": (12,), "patch_size": 16}
    return create(GFNet, "gfnet_xs", pretrained, settings, overrides)


@register_model
def gfnet_s(pretrained: bool = False, **overrides: object) -> nn.Module:
    """GFNet-S of the paper: 25 M parameters."""
    settings: dict[str, object] = {
        "dims": (384,),
        "depths": (19,),
        "patch_size": 16,
        "drop_path_rate": 0.15,
    }
    return create(GFNet, "gfnet_s", pretrained, settings, overrides)


@register_model
def gfnet_b(pretrained: bool = False, **overrides: object) -> nn.Module:
    """GFNet-B of the paper: 43 M parameters."""
    settings: dict[str, object] = {
        "dims": (512,),
        "depths": (19,),
        "patch_size": 16,
        "drop_path_rate": 0.25,
    }
    return create(GFNet, "gfnet_b", pretrained, settings, overrides)


@register_model
def gfnet_h_ti(pretrained: bool = False, **overrides: object) -> nn.Module:
    """GFNet-H-Ti of the paper: 15 M parameters."""
    settings: dict[str, object] = {
        "dims": (64, 128, 256, 512),
        "depths": (3, 3, 10, 3),
        "patch_size": 4,
        "layer_scale": 1e-3,
        "drop_path_rate": 0.1,
    }
    return create(GFNet, "gfnet_h_ti", pretrained, settings, overrides)


@register_model
def gfnet_h_s(pretrained: bool = False, **overrides: object) -> nn.Module:
    """GFNet-H-S of the paper: 32 M parameters."""
    settings: dict[str, object] = {
        "dims": (96, 192, 384, 768),
        "depths": (3, 3, 10, 3),
        "patch_size": 4,
        "layer_scale": 1e-5,
        "drop_path_rate": 0.2,
    }
    return create(GFNet, "gfnet_h_s", pretrained, settings, overrides)


@register_model
def gfnet_h_b(pretrained: bool = False, **overrides: object) -> nn.Module:
    """GFNet-H-B of the paper: 54 M parameters."""
    settings: dict[str, object] = {
        "dims": (96, 192, 384, 768),
        "depths": (3, 3, 27, 3),
        "patch_size": 4,
        "layer_scale": 1e-6,
        "drop_path_rate": 0.4,
    }
    return create(GFNet, "gfnet_h_b", pretrained, settings, overrides)
