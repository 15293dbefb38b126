"""Which part of each image becomes the model's input, as one resampling.

A training crop, or the evaluation's resize and centre crop, is the resampling of a rectangle of the
image to size x size pixels. The rectangle of an evaluation has fractional borders, and the filter
reaches beyond them into the image, as it does when the whole image is resized first. So the result
is that of torchvision's two steps, and only the part under the filter need be decoded.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.crop_draws import Crops
from pipeline.config import InputSpec
from pipeline.formats.source import Sample

_FILTER_REACH = 2
"""Of the bicubic filter, the wider one, to each side, in pixels of the smaller resolution."""


class Regions(NamedTuple):
    """The regions of B images; pairs are (vertical, horizontal).

    Attributes:
        anchor: (B, 2) int32, the corner of the part to decode.
        shape: (B, 2) int32, its size.
        start: (B, 2) float32, where the region begins within the decoded part.
        end: (B, 2) float32, where it ends; before `start` where the image is to be mirrored.
        bicubic: (B,) bool, the filter is bicubic rather than linear.
    """

    anchor: NDArray[np.int32]
    shape: NDArray[np.int32]
    start: NDArray[np.float32]
    end: NDArray[np.float32]
    bicubic: NDArray[np.bool_]


def regions_of(samples: Sequence[Sample], crops: Crops | None, spec: InputSpec) -> Regions:
    """Return the regions of a batch, which has no `crops` in evaluation."""
    return evaluation_regions(samples, spec) if crops is None else training_regions(crops)


def training_regions(crops: Crops) -> Regions:
    """Return the regions of the crop boxes, which are resampled without what surrounds them."""
    boxes = crops.boxes
    shape = boxes[:, 2:].astype(np.float32)
    near_edge = np.zeros_like(shape)
    mirrored = np.stack([crops.vertical_flips, crops.flips], axis=1)
    return Regions(
        anchor=boxes[:, :2].astype(np.int32),
        shape=boxes[:, 2:].astype(np.int32),
        start=np.where(mirrored, shape, near_edge),
        end=np.where(mirrored, near_edge, shape),
        bicubic=crops.bicubic,
    )


def evaluation_regions(samples: Sequence[Sample], spec: InputSpec) -> Regions:
    """Return the regions that the centre crop covers after the short side's resize.

    torchvision's geometry: the short side becomes floor(size / crop_pct), the long side keeps the
    ratio and is rounded down; offsets of the crop are rounded half to even.
    """
    image = np.array([(sample.height, sample.width) for sample in samples])
    short = int(spec.size / spec.crop_pct)
    resized = np.maximum(short * image // image.min(axis=1, keepdims=True), short)
    scale = image / resized
    offset = np.rint((resized - spec.size) / 2)
    start, end = offset * scale, (offset + spec.size) * scale
    reach = np.ceil(_FILTER_REACH * np.maximum(scale, 1)) + 1
    first = np.maximum(np.floor(start) - reach, 0)
    last = np.minimum(np.ceil(end) + reach, image)
    return Regions(
        anchor=first.astype(np.int32),
        shape=(last - first).astype(np.int32),
        start=(start - first).astype(np.float32),
        # In float32 the end may come to lie a little outside.
        end=np.minimum((end - first).astype(np.float32), (last - first).astype(np.float32)),
        bicubic=np.full(len(samples), spec.interpolation == "bicubic"),
    )
