"""DynaMixer: token mixing with matrices generated from the tokens (Wang et al., ICML 2022).

Equations are the paper's, https://arxiv.org/abs/2201.12083; attribute names follow the authors'
checkpoints. Shapes: B batch, H W token grid, C channels, S segments of C/S channels.

The arithmetic is arranged for few passes over memory. One product reduces the tokens for both axes;
the generated matrices have their softmax in the last dimension; the branch weights come before the
branches (a linear layer's mean output is the layer of the mean input), so that where an image has
many tokens, branches, their weighted sum and `proj` become one product with a matrix per image.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.kernels import switch
from models.kernels.axis_mixing import mix_axes
from models.layers.arguments import Size
from models.layers.basic import Reweight, weighted_sum
from models.layers.mixing_matrices import DynamicOp, Generator, MixingOp, make_op
from models.registry import create, default_cfg
from models.trunks.pyramid import Pyramid, per_stage_numbers


class DynaMix(nn.Module):
    """Columns mixed, rows mixed and a channel map, summed with weights per image and channel.

    Args:
        dim: channels C.
        num_tokens: tokens of an image, H x W.
        op_h: mixes the tokens of a column, None for no such branch.
        op_w: mixes the tokens of a row; may be the same module as `op_h`.
        channel: whether there is a channel branch.
        reweight: whether the branches are weighted; otherwise they are added.
    """

    def __init__(
        self,
        dim: int,
        num_tokens: int,
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
        # Making the matrix takes Q C^3 multiplications per image, its use saves N C^2.
        self.is_folded = reweight and num_tokens > num_branches * dim

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        compressed_h, compressed_w = self._compressed(x)
        op_h, op_w = self.mix_h, self.mix_h if self.is_shared else self.mix_w
        columns = None if compressed_h is None else compressed_h.transpose(1, 2)
        sources: list[tuple[Tensor, nn.Linear]] = []  # a branch is the layer of the tokens
        if switch.ENABLED and isinstance(op_h, DynamicOp) and isinstance(op_w, DynamicOp):
            mixed_h, mixed_w = mix_axes(x, op_h.logits(columns), op_w.logits(compressed_w))
            sources += [(mixed_h, op_h.out), (mixed_w, op_w.out)]
        else:
            if op_h is not None:
                mixed = op_h(x.transpose(1, 2), columns).transpose(1, 2)
                sources.append((mixed.flatten(3), op_h.out))
            if op_w is not None:
                sources.append((op_w(x, compressed_w).flatten(3), op_w.out))
        if self.mlp_c is not None:
            sources.append((x, self.mlp_c))
        return self._fuse(sources)

    def _compressed(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What the column and the row operation need of `compress`, in one product."""
        columns = None if self.mix_h is None else self.mix_h.compress
        rows = None if self.mix_w is None else self.mix_w.compress
        if columns is None or rows is None:
            alone = columns or rows
            compressed = None if alone is None else alone(x)
            return compressed, compressed
        weight = torch.cat([columns.weight, rows.weight])
        bias = torch.cat([columns.bias, rows.bias])
        features_h, features_w = F.linear(x, weight, bias).split(
            [columns.out_features, rows.out_features], dim=-1
        )
        return features_h, features_w

    def _fuse(self, sources: list[tuple[Tensor, nn.Linear]]) -> Tensor:
        """Project the sum of the branches, weighted or plain."""
        if self.reweight is None:
            return self.proj(_add([layer(tokens) for tokens, layer in sources]))
        means = [layer(tokens.mean(dim=(1, 2))) for tokens, layer in sources]
        weights = self.reweight(_add(means))
        if self.is_folded:
            return self._folded(sources, weights)
        return self.proj(weighted_sum([layer(tokens) for tokens, layer in sources], weights))

    def _folded(self, sources: list[tuple[Tensor, nn.Linear]], weights: Tensor) -> Tensor:
        """The same as one product over the concatenated tokens of the branches.

        proj(sum_q a_q * (W_q t_q + b_q)) = [proj a_q W_q]_q [t_q]_q + proj(sum_q a_q * b_q).
        """
        layers = [layer for _, layer in sources]
        scaled = self.proj.weight * weights[:, :, None, :]  # (Q, B, C, C)
        matrix = torch.cat(
            [left @ layer.weight for left, layer in zip(scaled, layers, strict=True)], dim=-1
        )
        biases = [
            a * layer.bias
            for a, layer in zip(weights, layers, strict=True)
            if layer.bias is not None  # `mlp_c` has none
        ]
        offset = self.proj(_add(biases)) if biases else self.proj.bias.expand(len(matrix), -1)
        tokens = torch.cat([tokens for tokens, _ in sources], dim=-1)
        folded = torch.baddbmm(offset[:, None, :], tokens.flatten(1, 2), matrix.transpose(1, 2))
        return folded.view(tokens.shape[:3] + offset.shape[1:])


def _add(terms: Sequence[Tensor]) -> Tensor:
    return sum(terms[1:], start=terms[0])


class DynaMixer(Pyramid):
    """The DynaMixer classifier.

    The arguments from `generator` to `shared` are the paper's ablations. The others are Pyramid's.

    Args:
        segments: number S of channel segments per stage, each with its own mixing matrices; one
            number for all stages.
        reduced_dim: width d to which a token is reduced per segment for the dynamic generator;
            None is 2.
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
        reduced_dim: int | None = None,
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
        per_stage = per_stage_numbers("segments", segments, dims)
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
            return DynaMix(
                dim, grid[0] * grid[1], op_h=op_h, op_w=op_w, channel=channel, reweight=reweight
            )

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
    }
    if overrides.get("generator", "dynamic") == "dynamic":
        settings["reduced_dim"] = 8
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
