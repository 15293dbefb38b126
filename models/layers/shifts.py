"""Tokens moved along the columns or the rows of a grid: what costs no multiplication.

All functions take (B, H, W, C) or any other layout and a dimension; nothing is written in place and
every gradient is again a move, so they are exactly repeatable and torch.compile makes one pass of a
move and what is around it. It sees the length of a line as a number, by `index`, never as a
variable of all stages: with remainders and cuts of those a graph would take minutes to make.
"""

from operator import index

import torch
import torch.nn.functional as F
from torch import Tensor


def shift(x: Tensor, by: int, dim: int) -> Tensor:
    """The entry of place i at place i + `by`; zeros come in at the border."""
    length = index(x.shape[dim])
    by = max(-length, min(by, length))
    if by == 0:
        return x
    # A negative padding cuts off, so that this is one pass, and one backward.
    return F.pad(x, [0, 0] * (x.ndim - 1 - dim) + [by, -by])


def step(x: Tensor, by: int, dim: int) -> Tensor:
    """The entry of place i at place i + `by`, 1 or -1; the entry at the border stays there too."""
    last = index(x.shape[dim]) - 1
    if by > 0:
        return torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, last)], dim)
    return torch.cat([x.narrow(dim, 1, last), x.narrow(dim, last, 1)], dim)


def periodic(x: Tensor, start: int, length: int, dim: int) -> Tensor:
    """Entries `start` to `start + length` of `x` continued without end along `dim`.

    Args:
        x: a tensor with L entries along `dim`.
        start: the first place; any whole number.
        length: entries of the result.
        dim: the dimension, counted from the front.
    """
    period = index(x.shape[dim])
    start %= period
    parts = []
    while length > 0:
        parts.append(x.narrow(dim, start, min(period - start, length)))
        length -= min(period - start, length)
        start = 0
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
