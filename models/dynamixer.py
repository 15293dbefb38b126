"""DynaMixer: token mixing with matrices generated from the tokens (Wang et al., ICML 2022).

Equations are the paper's, https://arxiv.org/abs/2201.12083; attribute names follow the authors'
checkpoints. Shapes: B batch, H W token grid, C channels, S segments of C/S channels.

The arithmetic is arranged for few passes over memory: one product makes all that is linear in the
block's input, the generated matrices have their softmax in the last dimension, and the branch
weights come before the branches: a linear layer's mean output is the layer of the mean input.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.dynamixer_ops import Generator, MixingOp, make_op
from models.layers import Reweight, weighted_sum
from models.pyramid import Pyramid, Size, per_stage_numbers
from models.registry import create, default_cfg


class DynaMix(nn.Module):
    """Columns mixed, rows mixed and a channel map, summed with weights per image and channel.

    Args:
        op_h: mixes the tokens of a column, None for no such branch.
        op_w: mixes the tokens of a row; may be the same module as `op_h`.
        channel: whether there is a channel branch.
        reweight: whether the branches are weighted; otherwise they are added.
    """

    def __init__(
        self,
        dim: int,
        *,
        op_h: MixingOp | None,
        op_w: MixingOp | None,
        channel: bool = True,
        reweight: bool = True,
    ) -> None:
        super().__init__()
        num_branches = (op_h is not None) + (op_w is not None) + channel
        if num_branches == 0:
            raise ValueError("column, row and channel are all false: nothing is left to mix with")
        self.mix_h = op_h
        # A shared operation is kept under one name only, so that the state_dict has it once.
        self.mix_w = None if op_w is op_h else op_w
        self.is_shared = op_h is not None and op_w is op_h
        self.mlp_c = nn.Linear(dim, dim, bias=False) if channel else None
        self.reweight = Reweight(dim, num_branches) if reweight else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        compressed_h, compressed_w, channel = self._input_product(x)
        branches: list[tuple[Tensor, nn.Linear | None]] = []
        if self.mix_h is not None:
            columns = None if compressed_h is None else compressed_h.transpose(1, 2)
            mixed = self.mix_h(x.transpose(1, 2), columns).transpose(1, 2)
            branches.append((mixed, self.mix_h.out))
        op_w = self.mix_h if self.is_shared else self.mix_w
        if op_w is not None:
            branches.append((op_w(x, compressed_w), op_w.out))
        if channel is not None:
            branches.append((channel, None))
        return self.proj(self._fuse(branches))

    def _fuse(self, branches: list[tuple[Tensor, nn.Linear | None]]) -> Tensor:
        """Sum over branches of weight * layer(tokens); `layer` None is the identity."""
        outputs = [t if layer is None else layer(t.flatten(3)) for t, layer in branches]
        if self.reweight is None:
            return sum(outputs[1:], start=outputs[0])
        means = [t.mean(dim=(1, 2)).flatten(1) for t, _ in branches]
        means = [
            m if layer is None else layer(m) for m, (_, layer) in zip(means, branches, strict=True)
        ]
        return weighted_sum(outputs, self.reweight(sum(means[1:], start=means[0])))

    def _input_product(self, x: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """`compress` of both axes and `mlp_c`, whichever exist, as one product."""
        layers = [
            None if self.mix_h is None else self.mix_h.compress,
            None if self.mix_w is None else self.mix_w.compress,
            self.mlp_c,
        ]
        present = [layer for layer in layers if layer is not None]
        if not present:
            return None, None, None
        weight = torch.cat([layer.weight for layer in present])
        product = F.linear(x, weight)
        parts = iter(product.split([layer.out_features for layer in present], dim=-1))
        results = [None if layer is None else _add_bias(next(parts), layer) for layer in layers]
        if self.is_shared:
            results[1] = results[0]
        return results[0], results[1], results[2]


def _add_bias(x: Tensor, layer: nn.Linear) -> Tensor:
    # Added here, not in the product: `mlp_c`, the large part, has none.
    return x if layer.bias is None else x + layer.bias


class DynaMixer(Pyramid):
    """The DynaMixer classifier.

    The arguments from `generator` to `shared` are the paper's ablations. The others are Pyramid's.

    Args:
        segments: number S of channel segments per stage, each with its own mixing matrices; one
            number for all stages.
        reduced_dim: width d to which a token is reduced per segment to generate the matrices.
        generator: "dynamic", or Synthesizer's "random" (learned matrices, the same for all images)
            or "dense" (a row from its own token alone).
        column: whether there is a branch that mixes within columns.
        row: whether there is a branch that mixes within rows.
        channel: whether there is a branch that mixes channels only.
        reweight: whether the branches are weighted per image and channel.
        shared: whether columns and rows share one operation; needs a square token grid.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        transitions: Sequence[bool],
        segments: Sequence[int] | int,
        reduced_dim: int = 2,
        generator: Generator = "dynamic",
        column: bool = True,
        row: bool = True,
        channel: bool = True,
        reweight: bool = True,
        shared: bool = False,
        patch_size: int = 7,
        img_size: Size = 224,
        mlp_ratio: float = 3.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        per_stage = per_stage_numbers("segments", segments, len(dims))
        if shared and not (column and row):
            raise ValueError("shared: needs both the column and the row branch")

        def make_mixer(stage: int, dim: int, grid: tuple[int, int]) -> nn.Module:
            if shared and grid[0] != grid[1]:
                raise ValueError(f"shared: needs a square token grid, got {grid[0]}x{grid[1]}")

            def op(length: int) -> MixingOp:
                return make_op(
                    generator, dim, length, segments=per_stage[stage], reduced_dim=reduced_dim
                )

            op_h = op(grid[0]) if column else None
            op_w = op_h if shared else op(grid[1]) if row else None
            return DynaMix(dim, op_h=op_h, op_w=op_w, channel=channel, reweight=reweight)

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
