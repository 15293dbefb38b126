"""Which part of each image becomes the model's input, as one resampling.

A training crop, or the evaluation's resize and centre crop, is the resampling of a rectangle of the
image to size x size pixels. The rectangle of an evaluation has fractional borders, and the filter
reaches beyond them into the image, as it does when the whole image is resized first. So the result
is that of torchvision's two steps, and only the part under the filter need be decoded. An image
with borders fills a part of the result only: its content.
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


class Content(NamedTuple):
    """Which part of each of B results the image fills; pairs are (vertical, horizontal).

    Attributes:
        corner: (B, 2) int64, its upper left pixel.
        shape: (B, 2) int64, its size in pixels.
    """

    corner: NDArray[np.int64]
    shape: NDArray[np.int64]


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


def content_of(samples: Sequence[Sample], crops: Crops | None, spec: InputSpec) -> Content | None:
    """Return what the images of a batch fill; None if each fills all."""
    if crops is not None or spec.crop_mode != "border":
        return None
    _, offset, content = _evaluation_geometry(samples, spec)
    return Content(corner=np.maximum(-offset, 0), shape=content)


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
    """Return the regions that the centre crop covers after the resize, to fill the content."""
    image = np.array([(sample.height, sample.width) for sample in samples])
    resized, offset, content = _evaluation_geometry(samples, spec)
    scale, first_pixel = image / resized, np.maximum(offset, 0)
    start, end = first_pixel * scale, (first_pixel + content) * scale
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


def beyond_the_image(regions: Regions, content: Content, size: int) -> Regions:
    """Return the regions that fill size x size pixels as `regions` fill the content alone.

    They reach beyond the images, for what resamples such regions.
    """
    scale = (regions.end - regions.start) / content.shape
    start = regions.start - content.corner * scale
    return regions._replace(
        start=start.astype(np.float32), end=(start + size * scale).astype(np.float32)
    )


def resized_shapes(image: NDArray[np.int64], spec: InputSpec) -> NDArray[np.int64]:
    """Return what evaluation resizes images to, (B, 2) as they are; timm's rounding in each mode.

    Args:
        image: (B, 2) heights and widths.
        spec: size, share of the crop and mode.
    """
    target = int(spec.size / spec.crop_pct)
    if spec.crop_mode == "squash":
        return np.full_like(image, target)
    if spec.crop_mode == "border":
        # timm has nothing left of an image that is narrower than a pixel after this.
        return np.maximum(np.rint(image / (image / target).max(axis=1, keepdims=True)), 1).astype(
            np.int64
        )
    return np.maximum(target * image // image.min(axis=1, keepdims=True), target)


def centre_offset(resized: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return where the centre of `size` pixels begins in the resized image.

    Half pixels are rounded to even; negative where the image is smaller, half pixels up then.
    """
    spare = resized - size
    return np.where(spare < 0, -(-spare // 2), np.rint(spare / 2)).astype(np.int64)


def _evaluation_geometry(
    samples: Sequence[Sample], spec: InputSpec
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return resized shapes, where the crops begin in them, and how much of these is image."""
    image = np.array([(sample.height, sample.width) for sample in samples], np.int64)
    resized = resized_shapes(image, spec)
    return resized, centre_offset(resized, spec.size), np.minimum(resized, spec.size)
