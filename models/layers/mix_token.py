"""MixToken: a box of the token grid is taken from another image (Jiang et al., NeurIPS 2021).

The batch meets its own reverse: inside the box, image b has the tokens of image B - 1 - b. The same
exchange of the outputs brings each token's output back to the image that it came from. The draw is
the caller's, so that it can be keyed by the step; here are pure functions of it.
Source: https://arxiv.org/abs/2104.10858 and its code.
"""

import math

import torch
from torch import Tensor

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in tokens; the last two are not inside."""


def mix_box(grid: tuple[int, int], *, kept: float, row: int, column: int) -> Box:
    """The box of one draw, cut at the grid's border.

    Args:
        grid: rows and columns of tokens.
        kept: share of the grid that is meant to stay, in [0, 1].
        row: of the box's centre.
        column: likewise.

    Returns:
        A box that reaches half a side, rounded down, to either side of the centre: its sides are
        even where the border does not cut it. It is empty where half a side is less than a token.
    """
    top, bottom = _side(grid[0], kept, row)
    left, right = _side(grid[1], kept, column)
    return top, left, bottom, right


def _side(length: int, kept: float, centre: int) -> tuple[int, int]:
    half = math.floor(length * math.sqrt(1 - kept)) // 2
    return min(max(centre - half, 0), length), min(max(centre + half, 0), length)


def box_mask(box: Box, grid: tuple[int, int]) -> Tensor:
    """(H, W) bool: true inside. A tensor, since a compiled graph would be made for each box."""
    top, left, bottom, right = box
    mask = torch.zeros(grid, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def exchange(x: Tensor, mask: Tensor) -> Tensor:
    """Take what is inside the mask from the batch in reverse order.

    Args:
        x: (B, H, W, C).
        mask: (H, W) bool.

    Returns:
        (B, H, W, C). Applied twice, it changes nothing.
    """
    return torch.where(mask[:, :, None], x.flip(0), x)
