"""Targets of tokens, cut from a map of labels as their image was cut (Jiang et al., NeurIPS 2021).

A map holds an annotator's best logits at each place of the stored image. A token's target is the
mean of bilinear samples of the map at the places that the token's pixels come from: RoIAlign (He et
al. 2017) of the crop's box, whose points go through flips, padding and geometric operations as the
pixels do. Formulas are those of https://arxiv.org/abs/2104.10858 and of its code. Shapes: B images,
N tokens, G samples of a token, H W places of a map, K classes, T best classes of a place.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.augment.batches import Mixing, mixed_targets
from pipeline.augment.crop_draws import Crops
from pipeline.augment.kernels import Kernel, KernelCalls
from pipeline.batch import send

_Floats = NDArray[np.float64]


class TokenTargets(NamedTuple):
    """What is right for B images, each row over K classes, float32.

    Attributes:
        labels: (B, K) of the label, smoothed.
        images: (B, K) of the map, for the class token.
        tokens: (B, N, K) of the map, row by row of the grid.
    """

    labels: Tensor
    images: Tensor
    tokens: Tensor


class LabelMaps(NamedTuple):
    """Maps of B stored images; no class is twice in a place.

    Attributes:
        classes: (B, T, H, W) integers.
        logits: (B, T, H, W) float; of all other classes they are 0.
    """

    classes: NDArray[np.integer]
    logits: NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Views:
    """What training sees of B stored images.

    Attributes:
        crops: as drawn.
        widths: (B,) of the stored images in pixels.
        heights: likewise.
        calls: the operations that follow; of these, the affine ones move pixels.
        size: height and width that the images are given.
    """

    crops: Crops
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    calls: KernelCalls
    size: int


class Samples(NamedTuple):
    """Points of the maps, in places; (B, N, G) float64 each.

    Attributes:
        rows: 0 is the middle of the first row.
        columns: likewise.
        weights: share in the token; 0 where the point is outside, or there are fewer points.
    """

    rows: _Floats
    columns: _Floats
    weights: _Floats


class _Axis(NamedTuple):
    """Boxes along one side of the maps, (B,) each: start and length in places, points of a bin."""

    start: _Floats
    length: _Floats
    counts: NDArray[np.int64]


def token_samples(
    views: Views, *, grid: tuple[int, int], places: tuple[int, int], exchange_xy: bool = False
) -> Samples:
    """Return where the maps are sampled for each token.

    Args:
        views: of B images.
        grid: rows and columns of tokens.
        places: rows and columns of the maps.
        exchange_xy: cut the box that has x and y exchanged, as the authors' code does.

    Returns:
        As many points of each token as the largest box needs, whatever these boxes are: so the
        targets of an image do not depend on which others are in its batch.
    """
    boxes = _shares(views)
    vertical, horizontal = boxes[:, ::2].T, boxes[:, 1::2].T
    if exchange_xy:
        vertical, horizontal = horizontal, vertical
    down = _axis(vertical, places[0], grid[0])
    across = _axis(horizontal, places[1], grid[1])
    y, in_bin_y = _bins(down.counts, grid[0], most=-(-places[0] // grid[0]))
    x, in_bin_x = _bins(across.counts, grid[1], most=-(-places[1] // grid[1]))
    shape = (len(y), grid[0], grid[1], y.shape[2], x.shape[2])
    y, x = np.broadcast_arrays(y[:, :, None, :, None], x[:, None, :, None, :])
    y, x, inside = _before_operations(y * views.size, x * views.size, views)
    rows = _spread(down.start) + y / views.size * _spread(down.length)
    columns = _spread(across.start) + x / views.size * _spread(across.length)
    inside = inside & _within(rows, places[0]) & _within(columns, places[1])
    inside = inside & in_bin_y[:, None, None, :, None] & in_bin_x[:, None, None, None, :]
    weights = inside / _spread((down.counts * across.counts).astype(np.float64))
    rows = _mirrored(np.clip(rows, 0, places[0] - 1), views.crops.vertical_flips, places[0])
    columns = _mirrored(np.clip(columns, 0, places[1] - 1), views.crops.flips, places[1])
    assert weights.shape == shape
    flat = (shape[0], grid[0] * grid[1], -1)
    return Samples(rows.reshape(flat), columns.reshape(flat), weights.reshape(flat))


def mixed(targets: TokenTargets, mixing: Mixing) -> TokenTargets:
    """Return targets of mixed images, whose labels are mixed already: all rows are blended.

    Tokens' targets are blended for cutmix too, and not pasted, as in the authors' code.
    """
    partners, weights = mixing.partners, mixing.weights
    images, tokens = (mixed_targets(part, partners, weights) for part in targets[1:])
    return TokenTargets(targets.labels, images, tokens)


def map_targets(
    maps: LabelMaps, samples: Samples, *, num_classes: int, smoothing: float, device: torch.device
) -> Tensor:
    """Return (B, N, K) targets, float32 (float64 where the logits are).

    They are the softmax of the sampled logits, smoothed as the authors do: each row sums to
    1 + smoothing / K.
    """
    dtype = torch.float64 if maps.logits.dtype == np.float64 else torch.float32
    classes = send(maps.classes.astype(np.int64), device).flatten(2).transpose(1, 2)
    logits = send(np.ascontiguousarray(maps.logits), device).to(dtype)
    logits = logits.flatten(2).transpose(1, 2)  # (B, H W, T)
    B, places, _ = classes.shape
    dense = torch.zeros(B, places, num_classes, dtype=dtype, device=device)
    dense.scatter_(2, classes, logits)
    rows, columns, weights = (send(part, device).to(dtype) for part in samples)
    height, width = maps.classes.shape[2:]
    near_rows = _hats(rows, height) * weights[..., None]  # (B, N, G, H)
    shares = near_rows.transpose(2, 3) @ _hats(columns, width)  # (B, N, H, W)
    targets = (shares.flatten(2) @ dense).softmax(dim=2)
    rest = smoothing / num_classes
    return targets * (1 - smoothing + rest) + rest


def _hats(points: Tensor, count: int) -> Tensor:
    """(..., count) shares of the places along a side in linear interpolation at (...) points."""
    line = torch.arange(count, dtype=points.dtype, device=points.device)
    return (1 - (points[..., None] - line).abs()).clamp_(min=0)


def _shares(views: Views) -> _Floats:
    """(B, 4) boxes within the flipped images: top, left, height, width as shares of their sides."""
    sides = np.stack([views.heights, views.widths], axis=1).astype(np.float64)
    starts, lengths = views.crops.boxes[:, :2] / sides, views.crops.boxes[:, 2:] / sides
    flipped = np.stack([views.crops.vertical_flips, views.crops.flips], axis=1)
    starts = np.where(flipped, 1 - starts - lengths, starts)
    return np.concatenate([starts, lengths], axis=1)


def _axis(shares: _Floats, places: int, bins: int) -> _Axis:
    start, length = shares[0] * places - 0.5, np.maximum(shares[1] * places, 1)
    return _Axis(start, length, np.ceil(length / bins).astype(np.int64))


def _bins(counts: NDArray[np.int64], bins: int, *, most: int) -> tuple[_Floats, NDArray[np.bool_]]:
    """(B, bins, most) evenly spaced points of each bin, in [0, 1], and (B, most): how many are."""
    number = np.arange(most)
    offsets = (number + 0.5) / counts[:, None, None]
    return (np.arange(bins)[:, None] + offsets) / bins, number < counts[:, None]


def _before_operations(
    y: _Floats, x: _Floats, views: Views
) -> tuple[_Floats, _Floats, NDArray[np.bool_]]:
    """Where pixels at (B, ...) points were before padding and operations, and whether in view."""
    size, calls = views.size, views.calls
    y, x, inside = y.copy(), x.copy(), np.ones(y.shape, np.bool_)
    for number in reversed(range(calls.codes.shape[1])):
        hit = np.flatnonzero(calls.codes[:, number] == Kernel.AFFINE)
        a, b, c, d, e, f = (_spread(column) for column in calls.args[hit, number].T)
        y[hit], x[hit] = d * x[hit] + e * y[hit] + f, a * x[hit] + b * y[hit] + c
        inside[hit] &= (y[hit] >= 0) & (y[hit] < size) & (x[hit] >= 0) & (x[hit] < size)
    if views.crops.shifts.any():
        y += _spread(views.crops.shifts[:, 0].astype(np.float64))
        x += _spread(views.crops.shifts[:, 1].astype(np.float64))
        inside &= (y >= 0) & (y < size) & (x >= 0) & (x < size)
    return y, x, inside


def _within(points: _Floats, places: int) -> NDArray[np.bool_]:
    """Whether RoIAlign samples there: up to a place beyond the border, it takes the border's."""
    return (points >= -1) & (points <= places)


def _mirrored(points: _Floats, flips: NDArray[np.bool_], places: int) -> _Floats:
    return np.where(flips[:, None, None, None, None], places - 1 - points, points)


def _spread(values: _Floats) -> _Floats:
    return values[:, None, None, None, None]
