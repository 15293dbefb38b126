"""The trunk that AMixer, AS-MLP and others have from Swin: patches, stages, merging between them.

Four neighbours become one token of twice the width. `MergingPyramid` is what all have in common,
`AnySizePyramid` the form in which nothing depends on the token grid. Attribute names are those of
the published checkpoints. Shapes: B batch, H W token grid, C channels; (B, H, W, C) inside.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.arguments import (
    Size,
    as_pair,
    check_counts,
    check_patch,
    check_ratio,
    check_stages,
)
from models.layers.basic import NormedPatchEmbed, drop_path_rates, init_linear
from models.layers.classifier import Classifier

BlockFactory = Callable[[int, float | None], nn.Module]
"""(width, drop path rate or None) -> a block."""


def merge_neighbours(x: Tensor, *, column_first: bool) -> Tensor:
    """2x2 neighbours concatenated; a grid with an odd side has zeros to its right or below it.

    Args:
        x: (B, H, W, C).
        column_first: the order of the neighbours, as (row, column): (0, 0), (1, 0), (0, 1), (1, 1),
            which is Swin's; otherwise (0, 0), (0, 1), (1, 0), (1, 1).

    Returns:
        (B, ceil(H/2), ceil(W/2), 4C).
    """
    H, W = x.shape[1:3]
    if H % 2 or W % 2:
        x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))
    x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, H/2, 2, W/2, 2, C)
    x = x.permute(0, 1, 3, 4, 2, 5) if column_first else x.transpose(2, 3)
    return x.flatten(3)


class PatchMerging(nn.Module):
    """2x2 neighbours in Swin's order, normalised and mapped to twice the width."""

    def __init__(self, dim: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, ceil(H/2), ceil(W/2), 2C)."""
        return self.reduction(self.norm(merge_neighbours(x, column_first=True)))


class Stage(nn.Module):
    """Blocks of one width and grid, and the merging after them (the last stage has none)."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = nn.Identity() if downsample is None else downsample


class MergingPyramid(Classifier):
    """Features of `patch_embed`, the stages in `layers` and `norm`, which a subclass makes."""

    patch_embed: nn.Module
    layers: nn.ModuleList
    norm: nn.Module

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, C), normalised tokens of the last stage.

        Raises:
            ValueError: if the images are not of a size that the model can classify.
        """
        self.check_images(images)
        x = self.patch_embed(images)
        for stage in self.layers:
            assert isinstance(stage, Stage)
            for block in stage.blocks:
                x = self.run_block(block, x)
            x = stage.downsample(x)
        return self.norm(x)

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Patterns that sort parameters into layers, for layer-wise learning rates."""
        if coarse:
            return {
                "stem": r"^patch_embed",
                "blocks": [(r"^layers\.(\d+)", None), (r"^norm", (99999,))],
            }
        return {
            "stem": r"^patch_embed",
            "blocks": [
                (r"^layers\.(\d+)\.blocks\.(\d+)", None),
                (r"^layers\.(\d+)\.downsample", (99998,)),
                (r"^norm", (99999,)),
            ],
        }


class AnySizePyramid(MergingPyramid):
    """An image classifier of stages, each with twice the width and half the grid of the last.

    Args:
        make_block: makes a block.
        norm: makes the norms of the trunk, of tokens (B, H, W, C) with so many channels.
        init: initialises a module of the trunk; None keeps torch's own initialisation.
        embed_dim: width of the first stage.
        depths: number of blocks per stage.
        patch_size: side of the square patches in pixels.
        mlp_ratio: hidden width of the channel MLP in multiples of the width; only checked.
        img_size: height and width of the images meant; every size from one patch on works.
        in_chans: channels of the input images.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: 'avg' (mean over tokens), or '' (none: the head acts on each token).
        drop_rate: dropout before the classifier.
        drop_path_rate: of the last block; the rates rise linearly from 0.
    """

    def __init__(
        self,
        make_block: BlockFactory,
        *,
        norm: Callable[[int], nn.Module],
        init: Callable[[nn.Module], None] | None,
        embed_dim: int,
        depths: Sequence[int],
        patch_size: int,
        mlp_ratio: float,
        img_size: Size,
        in_chans: int,
        num_classes: int,
        global_pool: str,
        drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__(in_chans=in_chans, num_classes=num_classes, global_pool=global_pool)
        check_counts(embed_dim=embed_dim, patch_size=patch_size)
        check_stages(depths=depths)
        check_ratio("mlp_ratio", mlp_ratio, width=embed_dim)
        self.patch_size = patch_size
        self.check_size(*as_pair(img_size))
        self.patch_embed = NormedPatchEmbed(in_chans, embed_dim, patch_size, norm(embed_dim))
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(depths):
            dim = embed_dim * 2**stage
            blocks = [
                make_block(dim, next(rates) if drop_path_rate > 0 else None) for _ in range(depth)
            ]
            is_last = stage == len(depths) - 1
            self.layers.append(Stage(blocks, None if is_last else PatchMerging(dim, norm)))
        num_features = embed_dim * 2 ** (len(depths) - 1)
        self.norm = norm(num_features)
        if init is not None:
            self.apply(init)
        self.add_head(num_features, drop_rate)

    def init_head(self, head: nn.Linear) -> None:
        """A truncated normal with standard deviation 0.02, and zero bias."""
        init_linear(head)

    def check_size(self, height: int, width: int) -> None:
        """See that there is a patch in the image."""
        check_patch(height, width, self.patch_size)
