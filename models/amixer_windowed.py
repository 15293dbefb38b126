"""AMixer in windows: the Swin-like form, T, S and B (Rao et al., ECCV 2022).

Four stages; the tokens of a window mix, and in the first two stages every second block shifts its
windows by half a side. The authors compute a mask against mixing across the wrapped-around border
and then do not use it; so do we, unless `mask_shifted_windows` asks for it. Attribute names are the
authors'. Shapes: B images, H W grid, C channels.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.amixer import Block, checkpoint_filter_fn, patch_grid
from models.layers.adaptive_mixing import AdaptiveMixing, MixingMode
from models.layers.amixer_windows import WINDOWS_PER_SIDE, half_a_window, separated_pairs, window_of
from models.layers.arguments import Size, check_counts, check_ratio
from models.layers.basic import NormedPatchEmbed, drop_path_rates, init_linear
from models.layers.classifier import FixedSizeClassifier
from models.registry import create, default_cfg
from models.trunks.merging_pyramid import MergingPyramid, Stage, merge_neighbours

SHIFTED_STAGES = 2
NORM_EPS = 1e-5


class WindowBlock(Block):
    """A block that mixes inside windows, after a cyclic shift of the grid by `shift` tokens."""

    separated: Tensor | None

    def __init__(
        self,
        dim: int,
        mixer: AdaptiveMixing,
        *,
        grid: tuple[int, int],
        shift: tuple[int, int],
        mask_shifted: bool,
        mlp_ratio: float,
        drop_path: float | None,
        gamma: float,
    ) -> None:
        super().__init__(
            dim, mlp_ratio=mlp_ratio, drop_path=drop_path, gamma=gamma, norm_eps=NORM_EPS
        )
        self.spatial_mixer = mixer
        self.grid = grid
        self.shift = shift
        self.padding = (-grid[0] % mixer.window[0], -grid[1] % mixer.window[1])
        separated = self._separated_pairs() if mask_shifted else None
        self.register_buffer("separated", separated, persistent=False)

    def _separated_pairs(self) -> Tensor:
        padded = (self.grid[0] + self.padding[0], self.grid[1] + self.padding[1])
        return separated_pairs(padded, self.spatial_mixer.window, self.shift)

    def init_non_persistent_buffers(self) -> None:
        """Restore what `to_empty` leaves undefined; see timm's `reinit_non_persistent_buffers`."""
        if self.separated is not None:
            self.separated.copy_(self._separated_pairs())

    def mix(self, x: Tensor) -> Tensor:
        """(B, H, W, C) normalised tokens -> the same shape; zeros pad the grid to whole windows."""
        (bottom, right), (down, across) = self.padding, self.shift
        if bottom or right:
            x = F.pad(x, (0, 0, 0, right, 0, bottom))
        if down or across:
            x = x.roll((-down, -across), dims=(1, 2))
        x = self.spatial_mixer(x, self.separated)
        if down or across:
            x = x.roll((down, across), dims=(1, 2))
        return x[:, : self.grid[0], : self.grid[1]]


class PatchMerging(nn.Module):
    """2x2 neighbours concatenated, normalised and mapped to twice the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=NORM_EPS)
        self.proj = nn.Linear(4 * dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, ceil(H/2), ceil(W/2), 2C)."""
        return self.proj(self.norm(merge_neighbours(x, column_first=False)))


class WindowedAMixer(MergingPyramid, FixedSizeClassifier):
    """The hierarchical AMixer classifier.

    Args:
        embed_dim: width of the first stage; each further stage has twice the one before.
        depths: number of blocks of the four stages.
        num_heads: heads per stage; a bank has 1.5 times as many matrices.
        mode: normalisation of policies and mixing weights; the paper's is "linear-softmax".
        window_sizes: side of the windows per stage in tokens. None: the grid is divided as at 224
            pixels, so the last two stages mix globally at every `img_size`.
        mask_shifted_windows: keep tokens apart that share a window only because the shift wraps
            around the border. The authors do not.
        layer_scale: initial gamma of the residual branches.
        patch_size: side of the square patches in pixels.
        img_size: height and width of the input, or one number for both; it takes this size only.
        mlp_ratio: hidden width of the channel MLP in multiples of the stage's width.
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
        num_heads: Sequence[int],
        mode: MixingMode = "linear-softmax",
        window_sizes: Sequence[int] | None = None,
        mask_shifted_windows: bool = False,
        layer_scale: float = 1e-3,
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
        check_ratio("mlp_ratio", mlp_ratio, width=embed_dim)
        _check_stages(depths=depths, num_heads=num_heads, window_sizes=window_sizes)
        self.grid = patch_grid(self.img_size, patch_size)
        norm = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        self.patch_embed = NormedPatchEmbed(in_chans, embed_dim, patch_size, norm)
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))

        def make_block(stage: int, block: int, grid: tuple[int, int]) -> WindowBlock:
            dim, heads = embed_dim * 2**stage, num_heads[stage]
            window = window_of(grid, stage, window_sizes)
            is_shifted = stage < SHIFTED_STAGES and block % 2 == 1
            return WindowBlock(
                dim,
                AdaptiveMixing(
                    dim, window=window, num_heads=heads, bank_size=int(1.5 * heads), mode=mode
                ),
                grid=grid,
                shift=half_a_window(grid, window) if is_shifted else (0, 0),
                mask_shifted=mask_shifted_windows and is_shifted,
                mlp_ratio=mlp_ratio,
                drop_path=next(rates) if drop_path_rate > 0 else None,
                gamma=layer_scale,
            )

        self.layers = nn.ModuleList()
        grid = self.grid
        for stage, depth in enumerate(depths):
            merging = PatchMerging(embed_dim * 2**stage) if stage < len(depths) - 1 else None
            self.layers.append(Stage([make_block(stage, b, grid) for b in range(depth)], merging))
            grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
        num_features = embed_dim * 2 ** (len(depths) - 1)
        self.norm = nn.LayerNorm(num_features, eps=NORM_EPS)
        self.apply(init_linear)
        self.add_head(num_features, drop_rate)

    def init_head(self, head: nn.Linear) -> None:
        """As all linear layers."""
        init_linear(head)


def _check_stages(**given: Sequence[int] | None) -> None:
    num_stages = len(WINDOWS_PER_SIDE)
    for name, values in given.items():
        if values is not None:
            check_counts(**{name: values})
            if isinstance(values, int) or len(values) != num_stages:
                raise ValueError(
                    f"{name}: give a number for each of the {num_stages} stages, got {values!r}"
                )


default_cfgs = generate_default_cfgs(
    {
        name: default_cfg(first_conv="patch_embed.proj", crop_pct=0.875)
        for name in ("amixer_t", "amixer_s", "amixer_b")
    }
)


def _create(
    variant: str, pretrained: bool, settings: dict[str, object], overrides: dict[str, object]
) -> nn.Module:
    settings["pretrained_filter_fn"] = checkpoint_filter_fn
    return create(WindowedAMixer, variant, pretrained, settings, overrides)


@register_model
def amixer_t(pretrained: bool = False, **overrides: object) -> nn.Module:
    """AMixer-T of the paper: 26 M parameters; the authors fix the drop path rate of T, S and B."""
    settings: dict[str, object] = {
        "embed_dim": 96,
        "depths": (2, 2, 10, 2),
        "num_heads": (3, 6, 12, 24),
        "drop_path_rate": 0.2,
    }
    return _create("amixer_t", pretrained, settings, overrides)


@register_model
def amixer_s(pretrained: bool = False, **overrides: object) -> nn.Module:
    """AMixer-S of the paper: 46 M parameters."""
    settings: dict[str, object] = {
        "embed_dim": 96,
        "depths": (2, 2, 26, 2),
        "num_heads": (3, 6, 12, 24),
        "drop_path_rate": 0.35,
    }
    return _create("amixer_s", pretrained, settings, overrides)


@register_model
def amixer_b(pretrained: bool = False, **overrides: object) -> nn.Module:
    """AMixer-B of the paper: 81 M parameters."""
    settings: dict[str, object] = {
        "embed_dim": 128,
        "depths": (2, 2, 26, 2),
        "num_heads": (4, 8, 16, 32),
        "drop_path_rate": 0.5,
    }
    return _create("amixer_b", pretrained, settings, overrides)
