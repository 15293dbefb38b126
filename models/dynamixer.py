"""DynaMixer: token mixing with matrices generated from the tokens (Wang et al., ICML 2022).

Equations are the paper's, https://arxiv.org/abs/2201.12083; attribute names follow the authors'
checkpoints. Shapes: B batch, H W grid, L tokens mixed together (H or W), C channels, S segments of
C/S channels, d reduced channels.

The arithmetic is arranged for few passes over memory: one product makes both axes' reduced tokens,
the generated matrices have their softmax in the last dimension, and the branch weights are computed
before the branches: the mean of a linear layer's output is the layer applied to the input's mean.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers import Reweight, softmax, weighted_sum
from models.pyramid import Pyramid, Size
from models.registry import create, default_cfg


class DynaMixerOp(nn.Module):
    """The DynaMixer operation on lines of `length` tokens.

    `compress` reduces each token to S x d numbers; the L x d numbers of a segment generate an L x L
    matrix, whose softmax over the source token mixes that segment's channels. One `generate` serves
    all segments.
    """

    def __init__(self, dim: int, length: int, *, segments: int, reduced_dim: int) -> None:
        super().__init__()
        if dim % segments != 0:
            raise ValueError(f"segments: {segments} does not divide the width {dim}")
        self.length = length
        self.segments = segments
        self.compress = nn.Linear(dim, segments * reduced_dim)
        self.generate = nn.Linear(length * reduced_dim, length * length)
        self.out = nn.Linear(dim, dim)

    def mixing_matrices(self, reduced: Tensor) -> Tensor:
        """(B, lines, L, S d) -> (B, lines, S, L, L); [..., j, i] is source i's share in j."""
        B, lines, L, _ = reduced.shape
        flat = reduced.reshape(B, lines, L, self.segments, -1).transpose(2, 3).flatten(3)
        # Rows of `generate` are numbered i L + j; reordered to j L + i, the softmax over i is over
        # the last dimension and the matrices multiply the tokens without being transposed.
        weight = self.generate.weight.unflatten(0, (L, L)).transpose(0, 1).flatten(0, 1)
        bias = self.generate.bias.reshape(L, L).t().flatten()
        logits = F.linear(flat, weight, bias).unflatten(-1, (L, L))
        return softmax(logits, dim=-1)

    def forward(self, x: Tensor, reduced: Tensor) -> Tensor:
        """Mixed tokens, before `out`.

        Args:
            x: (B, lines, L, C), any strides.
            reduced: (B, lines, L, S d), `compress` of x.

        Returns:
            (B, lines, L, S, C/S), a view of memory ordered (B, lines, S, L, C/S).
        """
        segments = x.unflatten(-1, (self.segments, -1)).transpose(2, 3)  # (B, lines, S, L, C/S)
        return (self.mixing_matrices(reduced) @ segments).transpose(2, 3)


class DynaMix(nn.Module):
    """Columns mixed, rows mixed and a channel map, summed with weights per image and channel."""

    def __init__(self, dim: int, grid: tuple[int, int], *, segments: int, reduced_dim: int) -> None:
        super().__init__()
        self.mix_h = DynaMixerOp(dim, grid[0], segments=segments, reduced_dim=reduced_dim)
        self.mix_w = DynaMixerOp(dim, grid[1], segments=segments, reduced_dim=reduced_dim)
        self.mlp_c = nn.Linear(dim, dim, bias=False)
        self.reweight = Reweight(dim, 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        reduced_h, reduced_w, channel = self._input_product(x)
        mixed_h = self.mix_h(x.transpose(1, 2), reduced_h.transpose(1, 2)).transpose(1, 2)
        mixed_w = self.mix_w(x, reduced_w)
        mean = (
            self.mix_h.out(mixed_h.mean(dim=(1, 2)).flatten(1))
            + self.mix_w.out(mixed_w.mean(dim=(1, 2)).flatten(1))
            + channel.mean(dim=(1, 2))
        )
        branches = (
            self.mix_h.out(mixed_h.flatten(3)),
            self.mix_w.out(mixed_w.flatten(3)),
            channel,
        )
        return self.proj(weighted_sum(branches, self.reweight(mean)))

    def _input_product(self, x: Tensor) -> Sequence[Tensor]:
        """Both axes' `compress`, and `mlp_c`, as one product."""
        layers = (self.mix_h.compress, self.mix_w.compress, self.mlp_c)
        weight = torch.cat([layer.weight for layer in layers])
        product = F.linear(x, weight)
        reduced_h, reduced_w, channel = product.split(
            [layer.out_features for layer in layers], dim=-1
        )
        return reduced_h + self.mix_h.compress.bias, reduced_w + self.mix_w.compress.bias, channel


class DynaMixer(Pyramid):
    """The DynaMixer classifier.

    Args:
        segments: number S of channel segments per stage, each with its own mixing matrices.
        reduced_dim: width d to which a token is reduced per segment to generate the matrices.

    The other arguments are Pyramid's.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        transitions: Sequence[bool],
        segments: Sequence[int],
        reduced_dim: int = 2,
        patch_size: int = 7,
        img_size: Size = 224,
        mlp_ratio: float = 3.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if len(segments) != len(dims):
            raise ValueError(
                f"segments {tuple(segments)}: give one number for each of {len(dims)} stages"
            )

        def make_mixer(stage: int, dim: int, grid: tuple[int, int]) -> nn.Module:
            return DynaMix(dim, grid, segments=segments[stage], reduced_dim=reduced_dim)

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
        "dynamixer_s": default_cfg(first_conv="patch_embed.proj"),
        "dynamixer_m": default_cfg(first_conv="patch_embed.proj"),
        "dynamixer_l": default_cfg(first_conv="patch_embed.proj", crop_pct=0.875),
        "dynamixer_nano": default_cfg(
            first_conv="patch_embed.proj", input_size=(3, 32, 32), num_classes=10, crop_pct=1.0
        ),
    }
)


@register_model
def dynamixer_s(pretrained: bool = False, **overrides: object) -> nn.Module:
    """DynaMixer-S of the paper: 26 M parameters."""
    settings: dict[str, object] = {
        "depths": (4, 3, 8, 3),
        "dims": (192, 384, 384, 384),
        "transitions": (True, False, False),
        "segments": (8, 16, 16, 16),
    }
    return create(DynaMixer, "dynamixer_s", pretrained, settings, overrides)


@register_model
def dynamixer_m(pretrained: bool = False, **overrides: object) -> nn.Module:
    """DynaMixer-M of the paper: 57 M parameters."""
    settings: dict[str, object] = {
        "depths": (4, 3, 14, 3),
        "dims": (256, 256, 512, 512),
        "transitions": (False, True, False),
        "segments": (8, 8, 16, 16),
    }
    return create(DynaMixer, "dynamixer_m", pretrained, settings, overrides)


@register_model
def dynamixer_l(pretrained: bool = False, **overrides: object) -> nn.Module:
    """DynaMixer-L of the paper: 98 M parameters."""
    settings: dict[str, object] = {
        "depths": (8, 8, 16, 4),
        "dims": (256, 512, 512, 512),
        "transitions": (True, False, False),
        "segments": (8, 16, 16, 16),
        "reduced_dim": 8,
    }
    return create(DynaMixer, "dynamixer_l", pretrained, settings, overrides)


@register_model
def dynamixer_nano(pretrained: bool = False, **overrides: object) -> nn.Module:
    """A small one for 32x32 images, not of the paper: patches of 4, 8x8 and 4x4 tokens."""
    settings: dict[str, object] = {
        "depths": (2, 2),
        "dims": (64, 128),
        "transitions": (True,),
        "segments": (4, 8),
        "patch_size": 4,
        "img_size": 32,
    }
    return create(DynaMixer, "dynamixer_nano", pretrained, settings, overrides)
