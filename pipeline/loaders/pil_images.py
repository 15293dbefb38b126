"""Single images by PIL: what the reference loader does, and what other decoders leave to it."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.Image import Resampling

from pipeline.formats.source import Sample
from pipeline.images.pixels import as_rgb
from pipeline.loaders.regions import Regions

PIL_ERRORS = (OSError, SyntaxError, ValueError, IndexError, Image.DecompressionBombError)
"""What PIL raises about damaged images, depending on their format."""


def open_image(sample: Sample) -> Image.Image:
    """Return the image in RGB, decoded, as stored (not turned by its EXIF orientation).

    Raises:
        ValueError: if it is not of the listed size.
        PIL_ERRORS: if it cannot be decoded.
    """
    if sample.data.ndim == 3:
        return Image.fromarray(sample.data)
    image = Image.open(io.BytesIO(sample.data.tobytes()))
    if image.size != (sample.width, sample.height):
        raise ValueError(
            f"it is {image.width} x {image.height} pixels, but listed with"
            f" {sample.width} x {sample.height}"
        )
    return as_rgb(image)


def resampled(
    image: Image.Image, regions: Regions, position: int, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the (*shape, 3) pixels of a region of `image`.

    Args:
        image: in RGB.
        regions: of the batch.
        position: of the image in the batch.
        shape: height and width of the result.
    """
    (top, left), (height, width) = regions.anchor[position], regions.shape[position]
    part = image.crop((int(left), int(top), int(left + width), int(top + height)))
    start, end = regions.start[position], regions.end[position]
    near, far = np.minimum(start, end).tolist(), np.maximum(start, end).tolist()
    resized = part.resize(
        (shape[1], shape[0]),
        Resampling.BICUBIC if regions.bicubic[position] else Resampling.BILINEAR,
        box=(near[1], near[0], far[1], far[0]),
    )
    if end[1] < start[1]:
        resized = ImageOps.mirror(resized)
    if end[0] < start[0]:
        resized = ImageOps.flip(resized)
    return np.asarray(resized)
