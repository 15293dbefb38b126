"""Where the windows of AMixer's stages lie on the token grid: sizes, shifts, separated tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

WINDOWS_PER_SIDE = (8, 4, 1, 1)
"""Of each stage, at any image size: windows of 7, 7, 14 and 7 tokens a side at 224 pixels."""


def window_of(
    grid: tuple[int, int], stage: int, window_sizes: Sequence[int] | None
) -> tuple[int, int]:
    """Height and width of a stage's windows in tokens; never larger than its grid."""
    if window_sizes is None:
        per_side = WINDOWS_PER_SIDE[stage]
        return -(-grid[0] // per_side), -(-grid[1] // per_side)
    return min(window_sizes[stage], grid[0]), min(window_sizes[stage], grid[1])


def separated_pairs(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> Tensor:
    """(windows, n, n) bool: exactly one of the two tokens came around the border."""
    wrapped = [torch.arange(side) >= side - by for side, by in zip(grid, shift, strict=True)]
    region = 2 * wrapped[0][:, None] + wrapped[1].int()[None, :]  # (H, W)
    region = region.unflatten(1, (-1, window[1])).unflatten(0, (-1, window[0]))
    region = region.transpose(1, 2).flatten(2).flatten(0, 1)  # (windows, n)
    return region[:, :, None] != region[:, None, :]


def half_a_window(grid: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """The shift; none along a side that is a single window."""
    down, across = (w // 2 if g > w else 0 for g, w in zip(grid, window, strict=True))
    return down, across
