"""The trunk of CycleMLP and Hire-MLP: overlapping patches and halvings, for images of any size.

As `models.trunks.pyramid`, but patches of 7 pixels lie 4 apart, and a 3x3 convolution with stride 2
stands between two stages. Nothing depends on the token grid, so one model takes every image size.
"""

from collections.abc import Callable, Sequence

from torch import nn

from models.layers.arguments import Size, as_pair, check_matching, check_stages
from models.layers.basic import drop_path_rates
from models.trunks.pyramid import FlatPyramid

PATCH_SIZE, STRIDE, PADDING = 7, 4, 2
LEAST = PATCH_SIZE - 2 * PADDING
"""Pixels of a side from which there is a token."""

BlockFactory = Callable[[int, int, float | None], nn.Module]
"""(stage, number of the block in its stage, drop path rate or None) -> a block."""

ConvFactory = Callable[..., nn.Module]
"""(channels, width, kernel, stride=, padding=) -> a convolution and what follows it."""


class OverlappingPyramid(FlatPyramid):
    """An image classifier of four or another number of stages, each of half the grid before it.

    Args:
        make_block: makes a block.
        make_embed: makes the layer of the images, (B, C, height, width) -> (B, H, W, width).
        make_downsample: makes the layer between two stages, (B, H, W, C) -> (B, H/2, W/2, width).
        norm: makes the norm before the pooling.
        init: initialises a module of the trunk.
        depths: number of blocks per stage.
        dims: width per stage.
        img_size: height and width of the images meant; every size from 3x3 on works.
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
        make_embed: ConvFactory,
        make_downsample: ConvFactory,
        norm: Callable[[int], nn.Module],
        init: Callable[[nn.Module], None],
        depths: Sequence[int],
        dims: Sequence[int],
        img_size: Size,
        in_chans: int,
        num_classes: int,
        global_pool: str,
        drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__(in_chans=in_chans, num_classes=num_classes, global_pool=global_pool)
        check_stages(depths=depths, dims=dims)
        check_matching(depths=depths, dims=dims)
        self.check_size(*as_pair(img_size))
        self.patch_embed = make_embed(in_chans, dims[0], PATCH_SIZE, stride=STRIDE, padding=PADDING)
        self.network = nn.ModuleList()
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            if stage > 0:
                self.network.append(make_downsample(dims[stage - 1], dim, 3, stride=2, padding=1))
            blocks = [
                make_block(stage, block, next(rates) if drop_path_rate > 0 else None)
                for block in range(depth)
            ]
            self.network.append(nn.Sequential(*blocks))
        self.norm = norm(dims[-1])
        self.apply(init)
        self.add_head(dims[-1], drop_rate)

    def check_size(self, height: int, width: int) -> None:
        """See that there is a token in the image."""
        if min(height, width) < LEAST:
            raise ValueError(
                f"an image of {height}x{width} pixels is too small: the first convolution needs at "
                f"least {LEAST}x{LEAST}; resize the images"
            )


def stage_sides(pixels: int, num_stages: int) -> list[int]:
    """Tokens of a side in each stage, for images of that many pixels."""
    sides = [(pixels + 2 * PADDING - PATCH_SIZE) // STRIDE + 1]
    for _ in range(num_stages - 1):
        sides.append((sides[-1] + 1) // 2)
    return sides
