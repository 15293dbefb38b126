"""LV-ViT: a vision transformer whose tokens are all labelled (Jiang et al., NeurIPS 2021).

Convolutions make the tokens, the residual stream outweighs its branches by a fixed factor, and a
second classifier, `aux_head`, sees every token of the grid. Equations are those of the paper,
https://arxiv.org/abs/2104.10858, and of its code, whose attribute names these are. Shapes:
B images, H W grid, N = H W tokens of it, C channels, K classes.

The authors' model draws MixToken's box itself and returns a tuple whenever it trains. Here the box
is an argument: with it `forward` gives the outputs for token labels; without it one tensor of
logits, in training as in evaluation, so that the model also learns from plain labels.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import Size, as_pair, check_counts, check_ratio
from models.layers.attention import Attention
from models.layers.basic import PatchEmbed, drop_path_rates
from models.layers.mix_token import exchange
from models.registry import create, default_cfg
from models.trunks.pyramid import Block
from models.trunks.token_classifier import TokenClassifier

PATCH_SIZE = 16
AUX_WEIGHT = 0.5
"""Of the tokens' greatest logit beside the class token's."""


class ConvStem(PatchEmbed):
    """Three convolutions at half the image's size, then patches of 8 x 8 of their outputs."""

    def __init__(self, in_chans: int, width: int, dim: int) -> None:
        super().__init__(width, dim, PATCH_SIZE // 2)
        self.conv1 = nn.Conv2d(in_chans, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, dim)."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.relu(self.bn2(self.conv2(x)))
        return super().forward(F.relu(self.bn3(self.conv3(x))))


class OutweighedBlock(Block):
    """x + branch(norm(x)) / divisor, for attention and for the MLP."""

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp_ratio: float,
        drop_path: float | None,
        residual_divisor: float,
    ) -> None:
        super().__init__(dim, mixer, mlp_ratio, drop_path)
        self.branch_scale = 1 / residual_divisor

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, C) -> the same shape."""
        x = torch.add(x, self.drop_path1(self.attn(self.norm1(x))), alpha=self.branch_scale)
        return torch.add(x, self.drop_path2(self.mlp(self.norm2(x))), alpha=self.branch_scale)


class LVViT(TokenClassifier):
    """The LV-ViT classifier.

    Args:
        embed_dim: width C.
        depth: number of blocks.
        num_heads: heads of the attention.
        residual_divisor: what each residual branch is divided by.
        stem_width: channels of the stem's convolutions; 0: patches of 16 x 16 pixels as they are.
        aux_head: whether there is a classifier of the grid's tokens.
        img_size: height and width of the input, or one number for both; it takes this size only.
        mlp_ratio: hidden width of the MLP in multiples of `embed_dim`.
        in_chans: channels of the input images.
        num_classes: outputs of the classifiers; 0 for none.
        global_pool: 'token' (the class token), or '' (none: the head acts on each token).
        drop_rate: dropout before the classifiers.
        drop_path_rate: of the last block; the rates rise linearly from 0.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        residual_divisor: float = 1.0,
        stem_width: int = 64,
        aux_head: bool = True,
        img_size: Size = 224,
        mlp_ratio: float = 3.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        halvings = 0 if stem_width == 0 else 1
        super().__init__(
            grid=stem_grid(as_pair(img_size), halvings),
            img_size=img_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
        )
        check_counts(embed_dim=embed_dim, depth=depth, num_heads=num_heads)
        check_ratio("mlp_ratio", mlp_ratio, width=embed_dim)
        if not 0 < residual_divisor < math.inf:
            raise ValueError(f"residual_divisor: must be greater than 0, got {residual_divisor!r}")
        if stem_width == 0:
            self.patch_embed = PatchEmbed(in_chans, embed_dim, PATCH_SIZE)
        else:
            check_counts(stem_width=stem_width)
            self.patch_embed = ConvStem(in_chans, stem_width, embed_dim)
        blocks: list[nn.Module] = [
            OutweighedBlock(
                embed_dim,
                Attention(embed_dim, num_heads),
                mlp_ratio,
                rate if drop_path_rate > 0 else None,
                residual_divisor,
            )
            for rate in drop_path_rates(drop_path_rate, depth)
        ]
        positions = nn.Parameter(torch.empty(1, 1 + self.grid[0] * self.grid[1], embed_dim))
        nn.init.trunc_normal_(positions, std=0.02)
        self.has_aux_head = aux_head
        self.add_blocks(blocks, positions, drop_rate)

    def add_head(self, num_features: int, drop_rate: float) -> None:
        """Put both classifiers on."""
        super().add_head(num_features, drop_rate)
        self._renew_aux_head()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put fresh classifiers on; `num_classes` 0 removes them."""
        super().reset_classifier(num_classes, global_pool)
        self._renew_aux_head()

    def _renew_aux_head(self) -> None:
        self.aux_head = self._make_head() if self.has_aux_head and self.num_classes else None
        if self.aux_head is not None:
            self.aux_head.to(self.cls_token)
            self.aux_head.train(self.training)

    def embed(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, C)."""
        return self.patch_embed(images)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  token labels need two outputs
        self, images: Tensor, mixed: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Classify images, or their tokens too.

        Args:
            images: (B, in_chans, height, width).
            mixed: (H, W) bool, tokens that MixToken takes from the batch in reverse order
                (`models.layers.mix_token`); all false without MixToken, None without token labels.

        Returns:
            (B, K) logits: those of the class token and half the greatest of the grid's tokens. If
            `mixed` is given, (B, K) of the class token, which saw the mixed image, and (B, N, K) of
            the grid's tokens, each with the image that it came from.

        Raises:
            ValueError: if `mixed` is given to a model without `aux_head`, or is of another grid.
        """
        if mixed is None:
            return self.forward_head(self.forward_features(images))
        if self.aux_head is None:
            raise ValueError(
                "the model has no classifier of tokens to learn token labels with; create it with "
                "aux_head=True and num_classes of at least 1, or leave `mixed` out"
            )
        if mixed.shape != self.grid:
            raise ValueError(
                f"mixed: expected one truth value for each token of the {self.grid[0]}x"
                f"{self.grid[1]} grid, got shape {tuple(mixed.shape)}"
            )
        self.check_images(images)
        x = self.head_drop(self.encode(exchange(self.embed(images), mixed)))
        tokens = exchange(self.aux_head(x[:, 1:]).unflatten(1, self.grid), mixed)
        return self.head(x[:, 0]), tokens.flatten(1, 2)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, 1 + N, C) -> (B, K), or the (B, C) that the class token's classifier sees."""
        if self.aux_head is None or self.global_pool != "token" or pre_logits:
            return super().forward_head(x, pre_logits)
        x = self.head_drop(x)
        return self.head(x[:, 0]) + AUX_WEIGHT * self.aux_head(x[:, 1:]).amax(1)


def stem_grid(img_size: tuple[int, int], halvings: int) -> tuple[int, int]:
    """Rows and columns of tokens; a halving rounds up, what is left beyond whole patches is cut.

    Raises:
        ValueError: if there is none.
    """
    step = 2**halvings
    rows, columns = (-(-side // step) // (PATCH_SIZE // step) for side in img_size)
    if min(rows, columns) < 1:
        raise ValueError(
            f"img_size {img_size[0]}x{img_size[1]} is too small: a token is {PATCH_SIZE}x"
            f"{PATCH_SIZE} pixels"
        )
    return rows, columns


AUTHORS_NAMES: dict[str, tuple[str, dict[str, object]]] = {
    "lvvit": ("lvvit_s", {"aux_head": False}),
    # Their plain baseline, which they call `vit`.
    "lvvit_repo_vit": ("lvvit_s", {"aux_head": False, "stem_width": 0, "residual_divisor": 1.0}),
}

default_cfgs = generate_default_cfgs(
    {
        "lvvit_t": default_cfg(first_conv="patch_embed.conv1"),
        "lvvit_s": default_cfg(first_conv="patch_embed.conv1"),
        "lvvit_m": default_cfg(first_conv="patch_embed.conv1", crop_pct=1.0),
        "lvvit_l": default_cfg(first_conv="patch_embed.conv1", crop_pct=1.0),
    }
)


def _create(
    variant: str, pretrained: bool, settings: dict[str, object], overrides: dict[str, object]
) -> nn.Module:
    if overrides.get("stem_width") == 0:
        overlay = cast("dict[str, object]", overrides.get("pretrained_cfg_overlay") or {})
        overlay = {"first_conv": "patch_embed.proj", **overlay}
        overrides = {**overrides, "pretrained_cfg_overlay": overlay}
    return create(LVViT, variant, pretrained, settings, overrides)


@register_model
def lvvit_t(pretrained: bool = False, **overrides: object) -> nn.Module:
    """LV-ViT-T of the authors' repository: 9 M parameters."""
    settings: dict[str, object] = {"embed_dim": 240, "depth": 12, "num_heads": 4}
    return _create("lvvit_t", pretrained, settings, overrides)


@register_model
def lvvit_s(pretrained: bool = False, **overrides: object) -> nn.Module:
    """LV-ViT-S of the paper: 26 M parameters."""
    settings: dict[str, object] = {
        "embed_dim": 384,
        "depth": 16,
        "num_heads": 6,
        "residual_divisor": 2.0,
    }
    return _create("lvvit_s", pretrained, settings, overrides)


@register_model
def lvvit_m(pretrained: bool = False, **overrides: object) -> nn.Module:
    """LV-ViT-M of the paper: 56 M parameters."""
    settings: dict[str, object] = {
        "embed_dim": 512,
        "depth": 20,
        "num_heads": 8,
        "residual_divisor": 2.0,
    }
    return _create("lvvit_m", pretrained, settings, overrides)


@register_model
def lvvit_l(pretrained: bool = False, **overrides: object) -> nn.Module:
    """LV-ViT-L of the paper: 150 M parameters."""
    settings: dict[str, object] = {
        "embed_dim": 768,
        "depth": 24,
        "num_heads": 12,
        "residual_divisor": 3.0,
        "stem_width": 128,
    }
    return _create("lvvit_l", pretrained, settings, overrides)
