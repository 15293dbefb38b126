"""sMLPNet: rows and columns mixed by matrices that all channels share (Tang et al., AAAI 2022).

Definitions are those of the paper, https://arxiv.org/abs/2109.05422, and its code (SPACH), whose
checkpoints `checkpoint_filter_fn` renames: they number the blocks through all stages, and have 1x1
convolutions where linear layers are here. Shapes: B batch, H W token grid, C channels.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import Size, check_counts, check_ratio, check_stages
from models.layers.basic import Downsample, PatchEmbed, drop_path_rates
from models.layers.classifier import FixedSizeClassifier
from models.layers.layouts import as_matrices, renamed
from models.layers.norms import BatchNorm
from models.layers.position_mixing import PositionLinear
from models.registry import create, default_cfg
from models.trunks.level_pyramid import Level, LevelPyramid
from models.trunks.pyramid import Block, token_grids


class SparseMix(nn.Module):
    """Neighbours mixed by channel; then tokens as they are, rows and columns of them, fused.

    Args:
        dim: channels C.
        grid: (H, W).
    """

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = BatchNorm(dim)
        self.mix_w = PositionLinear(grid[1])
        self.mix_h = PositionLinear(grid[0])
        self.fuse = nn.Linear(3 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = self.local(F.gelu(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = F.gelu(self.norm(x))
        rows = self.mix_w(x.flatten(0, 1)).view(x.shape)
        columns = self.mix_h(x.flatten(2)).view(x.shape)
        return self.fuse(torch.cat([x, rows, columns], dim=3))


class SMLPNet(LevelPyramid, FixedSizeClassifier):
    """The sMLPNet classifier.

    Args:
        embed_dim: width of the first level; each further level has twice the one before.
        depths: number of blocks per level.
        patch_size: side of the square patches in pixels.
        img_size: height and width of the input, or one number for both; it takes this size only.
        mlp_ratio: hidden width of the channel MLP in multiples of the level's width.
        in_chans: channels of the input images.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: 'avg' (mean over tokens), or '' (none: the head acts on each token).
        drop_rate: dropout before the classifier.
        drop_path_rate: of the last block; the rates rise linearly from 0.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: Sequence[int],
        patch_size: int = 4,
        img_size: Size = 224,
        mlp_ratio: float = 3.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            img_size=img_size, in_chans=in_chans, num_classes=num_classes, global_pool=global_pool
        )
        check_counts(embed_dim=embed_dim, patch_size=patch_size)
        check_stages(depths=depths)
        check_ratio("mlp_ratio", mlp_ratio, width=embed_dim)
        self.depths = tuple(depths)
        dims = [embed_dim * 2**level for level in range(len(depths))]
        grids = token_grids(self.img_size, patch_size, [True] * (len(depths) - 1))
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))

        def make_blocks(level: int) -> list[nn.Module]:
            return [
                Block(
                    dims[level],
                    SparseMix(dims[level], grids[level]),
                    mlp_ratio,
                    next(rates) if drop_path_rate > 0 else None,
                    norm1=BatchNorm,
                )
                for _ in range(depths[level])
            ]

        embeds = [PatchEmbed(in_chans, embed_dim, patch_size, bias=False)]
        embeds += [Downsample(dim, twice, 2, bias=False) for dim, twice in pairwise(dims)]
        self.levels = nn.ModuleList(
            Level(embed, make_blocks(level)) for level, embed in enumerate(embeds)
        )
        self.norm = BatchNorm(dims[-1])
        self.add_head(dims[-1], drop_rate)


_RULES = [
    (r"to_patch_embedding\.(\d+)\.0\.(.*)", r"levels.\1.embed.proj.\2"),
    (r"token_mix\.(\d+)\.0\.conv_merge\.BN\.(.*)", r"blocks.\1.norm1.\2"),
    (r"token_mix\.(\d+)\.0\.conv_merge\.Conv\.(.*)", r"blocks.\1.attn.local.\2"),
    (r"token_mix\.(\d+)\.1\.BN\.(.*)", r"blocks.\1.attn.norm.\2"),
    # The authors' "h" mixes along the width.
    (r"token_mix\.(\d+)\.1\.proj_h\.(.*)", r"blocks.\1.attn.mix_w.\2"),
    (r"token_mix\.(\d+)\.1\.proh_w\.(.*)", r"blocks.\1.attn.mix_h.\2"),
    (r"token_mix\.(\d+)\.1\.fuse\.(.*)", r"blocks.\1.attn.fuse.\2"),
    (r"channel_mix\.(\d+)\.1\.(.*)", r"blocks.\1.norm2.\2"),
    (r"channel_mix\.(\d+)\.2\.net\.0\.(.*)", r"blocks.\1.mlp.fc1.\2"),
    (r"channel_mix\.(\d+)\.2\.net\.3\.(.*)", r"blocks.\1.mlp.fc2.\2"),
    (r"batch_norm\.(.*)", r"norm.\1"),
    (r"mlp_head\.0\.(.*)", r"head.\1"),
]


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The authors' weights for `model`, which may be of another image size, by our names."""
    assert isinstance(model, SMLPNet)
    places = [
        f"levels.{level}.blocks.{b}"
        for level, depth in enumerate(model.depths)
        for b in range(depth)
    ]

    def our_name(key: str) -> str:
        name = renamed(key, _RULES)
        found = re.match(r"blocks\.(\d+)", name)
        if found is None or int(found[1]) >= len(places):
            return name
        return places[int(found[1])] + name[found.end() :]

    return as_matrices({our_name(key): weight for key, weight in state_dict.items()})


# The authors fix the rates of stochastic depth in their code.
_SETTINGS: dict[str, dict[str, object]] = {
    "smlpnet_tiny": {"embed_dim": 80, "depths": (2, 8, 14, 2)},
    "smlpnet_small": {"embed_dim": 96, "depths": (2, 10, 24, 2), "drop_path_rate": 0.2},
    "smlpnet_base": {"embed_dim": 112, "depths": (2, 10, 24, 2), "drop_path_rate": 0.3},
}

default_cfgs = generate_default_cfgs(
    {name: default_cfg(first_conv="levels.0.embed.proj", crop_pct=0.875) for name in _SETTINGS}
)


def _create(variant: str, pretrained: bool, overrides: dict[str, object]) -> nn.Module:
    settings = {**_SETTINGS[variant], "pretrained_filter_fn": checkpoint_filter_fn}
    return create(SMLPNet, variant, pretrained, settings, overrides)


@register_model
def smlpnet_tiny(pretrained: bool = False, **overrides: object) -> nn.Module:
    """sMLPNet-T of the paper: 24 M parameters."""
    return _create("smlpnet_tiny", pretrained, overrides)


@register_model
def smlpnet_small(pretrained: bool = False, **overrides: object) -> nn.Module:
    """sMLPNet-S of the paper: 49 M parameters."""
    return _create("smlpnet_small", pretrained, overrides)


@register_model
def smlpnet_base(pretrained: bool = False, **overrides: object) -> nn.Module:
    """sMLPNet-B of the paper: 66 M parameters."""
    return _create("smlpnet_base", pretrained, overrides)
