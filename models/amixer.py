"""AMixer on one grid of patches: the DeiT-like form (Rao et al., ECCV 2022).

Every block mixes all tokens of the grid at once. Blocks and the checkpoint filter are shared with
the windowed form, `models.amixer_windowed`. Attribute names, `spatil_mlp`
included, are the authors'. Shapes: B images, H W grid, C channels.
"""

import torch
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.adaptive_mixing import AdaptiveMixing, Bank, MixingMode
from models.layers.arguments import Size, check_counts, check_ratio
from models.layers.basic import (
    ChannelMlp,
    NormedPatchEmbed,
    drop_path_rates,
    drop_paths,
    init_linear,
)
from models.layers.classifier import FixedSizeClassifier
from models.layers.resampling import PositionIndexed, announce, resample
from models.registry import create, default_cfg

AUTHORS_BUFFERS = ("attn_mask", "relative_position_index")
"""In the authors' checkpoints, but functions of the architecture."""


class Block(nn.Module):
    """x + gamma1 * mix(norm(x)), then x + gamma2 * mlp(norm(x)); how to mix is the subclass's."""

    def __init__(
        self, dim: int, *, mlp_ratio: float, drop_path: float | None, gamma: float, norm_eps: float
    ) -> None:
        super().__init__()
        self.gamma1 = nn.Parameter(torch.full((dim,), gamma))
        self.gamma2 = nn.Parameter(torch.full((dim,), gamma))
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = ChannelMlp(dim, int(dim * mlp_ratio))
        self.drop_path1, self.drop_path2 = drop_paths(drop_path, 2)

    def mix(self, x: Tensor) -> Tensor:
        """(B, H, W, C) normalised tokens -> the same shape."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = _add(x, self.mix(self.norm1(x)), self.gamma1, self.drop_path1)
        return _add(x, self.mlp(self.norm2(x)), self.gamma2, self.drop_path2)


def _add(x: Tensor, branch: Tensor, gamma: Tensor, drop_path: nn.Module) -> Tensor:
    # Dropping the scale of a branch drops the branch, without a pass over it.
    return torch.addcmul(x, branch, drop_path(gamma.expand(x.shape[0], 1, 1, -1)))


class GridBlock(Block):
    """A block that mixes the whole grid."""

    def __init__(
        self,
        dim: int,
        mixer: AdaptiveMixing,
        *,
        mlp_ratio: float,
        drop_path: float | None,
        gamma: float,
        norm_eps: float,
    ) -> None:
        super().__init__(
            dim, mlp_ratio=mlp_ratio, drop_path=drop_path, gamma=gamma, norm_eps=norm_eps
        )
        self.spatil_mlp = mixer

    def mix(self, x: Tensor) -> Tensor:
        """(B, H, W, C) normalised tokens -> the same shape."""
        return self.spatil_mlp(x)


class AMixer(FixedSizeClassifier, PositionIndexed):
    """The isotropic AMixer classifier.

    Args:
        embed_dim: width C.
        depth: number of blocks.
        num_heads: heads of the mixing.
        bank_size: matrices in each block's bank.
        mode: normalisation of policies and mixing weights; the papers' is "linear-softmax".
        bank: relative or absolute bank.
        layer_scale: initial gamma of the residual branches.
        patch_size: side of the square patches in pixels.
        img_size: height and width of the input, or one number for both; it takes this size only.
        mlp_ratio: hidden width of the channel MLP in multiples of `embed_dim`.
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
        depth: int,
        num_heads: int,
        bank_size: int,
        mode: MixingMode = "linear-softmax",
        bank: Bank = "relative",
        layer_scale: float = 1e-4,
        patch_size: int = 16,
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
        check_counts(embed_dim=embed_dim, depth=depth, patch_size=patch_size)
        check_ratio("mlp_ratio", mlp_ratio, width=embed_dim)
        self.grid = patch_grid(self.img_size, patch_size)
        norm_eps = 1e-6
        norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.patch_embed = NormedPatchEmbed(in_chans, embed_dim, patch_size, norm)
        self.pos_embed = nn.Parameter(torch.empty(1, *self.grid, embed_dim))
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.Sequential(
            *(
                GridBlock(
                    embed_dim,
                    AdaptiveMixing(
                        embed_dim,
                        window=self.grid,
                        num_heads=num_heads,
                        bank_size=bank_size,
                        mode=mode,
                        bank=bank,
                    ),
                    mlp_ratio=mlp_ratio,
                    drop_path=rate if drop_path_rate > 0 else None,
                    gamma=layer_scale,
                    norm_eps=norm_eps,
                )
                for rate in rates
            )
        )
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.apply(init_linear)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.add_head(embed_dim, drop_rate)

    def init_head(self, head: nn.Linear) -> None:
        """As all linear layers."""
        init_linear(head)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, C), normalised tokens.

        Raises:
            ValueError: if the images are not of the size that the model was built for.
        """
        self.check_images(images)
        x = self.patch_embed(images) + self.pos_embed
        for block in self.blocks:
            x = self.run_block(block, x)
        return self.norm(x)

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Take the positional embedding of another grid, and the banks, which do not say theirs."""
        positions = state_dict.get(f"{prefix}pos_embed")
        if positions is None or positions.shape == self.pos_embed.shape or positions.ndim != 4:
            return
        resampled = resample(resample(positions, (1,), self.grid[0]), (2,), self.grid[1])
        state_dict[f"{prefix}pos_embed"] = resampled
        old = (positions.shape[1], positions.shape[2])
        announce(f"{prefix}pos_embed", old=old[0] * old[1], new=self.grid[0] * self.grid[1])
        for name, mixer in self.named_modules():
            if isinstance(mixer, AdaptiveMixing):
                mixer.take_bank(state_dict, f"{prefix}{name}.", window=old)

    def no_weight_decay(self) -> set[str]:
        """Parameters with two or more dimensions that take no decay."""
        return {"pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Patterns that sort parameters into layers, for layer-wise learning rates."""
        return {
            "stem": r"^patch_embed|^pos_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }


def patch_grid(img_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of whole patches in an image.

    Raises:
        ValueError: if there is none.
    """
    grid = (img_size[0] // patch_size, img_size[1] // patch_size)
    if min(grid) < 1:
        raise ValueError(
            f"img_size {img_size[0]}x{img_size[1]} is smaller than one patch of "
            f"{patch_size}x{patch_size} pixels"
        )
    return grid


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The authors' weights for `model`: without their buffers, which the architecture determines.

    Weights of another image size are resampled when they are loaded (`models.layers.resampling`).
    """
    return {key: w for key, w in state_dict.items() if key.split(".")[-1] not in AUTHORS_BUFFERS}


default_cfgs = generate_default_cfgs(
    {"amixer_deit_s": default_cfg(first_conv="patch_embed.proj", crop_pct=0.875)}
)


@register_model
def amixer_deit_s(pretrained: bool = False, **overrides: object) -> nn.Module:
    """AMixer-DeiT-S of the paper: 22 M parameters; the authors fix its drop path rate."""
    settings: dict[str, object] = {
        "embed_dim": 384,
        "depth": 17,
        "num_heads": 8,
        "bank_size": 16,
        "drop_path_rate": 0.1,
        "pretrained_filter_fn": checkpoint_filter_fn,
    }
    return create(AMixer, "amixer_deit_s", pretrained, settings, overrides)
