"""JPEGs of all kinds for tests of the decoder, what PIL makes of them, and how they are damaged."""

import io
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile

UNTOUCHED = 77
"""What stands where no image was written."""


def encode(picture, **options):
    """Encode an (H, W, 3) uint8 picture with PIL."""
    buffer = io.BytesIO()
    mode = options.pop("mode", "RGB")
    Image.fromarray(picture).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _encode_simple(picture, subsampling):
    """Encode with a subsampling that PIL does not write."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(picture), quality=85, colorsubsampling=subsampling
    )


ENCODINGS = {
    "444": lambda picture: encode(picture, subsampling=0, quality=95),
    "422": lambda picture: encode(picture, subsampling=1),
    "420": lambda picture: encode(picture, subsampling=2, quality=40, optimize=True),
    "440": lambda picture: _encode_simple(picture, "440"),
    "411": lambda picture: _encode_simple(picture, "411"),
    "rgb": lambda picture: encode(picture, keep_rgb=True),
    "gray": lambda picture: encode(picture, mode="L"),
    "progressive 444": lambda picture: encode(picture, subsampling=0, progressive=True),
    "progressive 420": lambda picture: encode(picture, subsampling=2, progressive=True),
    "progressive gray": lambda picture: encode(picture, mode="L", progressive=True),
    "restart 420": lambda picture: encode(picture, subsampling=2, restart_marker_blocks=3),
    "restart rows": lambda picture: encode(
        picture, subsampling=1, restart_marker_rows=1, progressive=True, quality=5
    ),
}


@dataclass(frozen=True)
class Crop:
    """One image of a call; pairs are (vertical, horizontal)."""

    data: bytes
    size: tuple[int, int]
    anchor: tuple[int, int]
    shape: tuple[int, int]
    start: tuple[float, float]
    end: tuple[float, float]
    bicubic: bool = False

    @classmethod
    def whole(cls, data, size=None):
        size = size or Image.open(io.BytesIO(data)).size[::-1]
        return cls(data, size, (0, 0), size, (0, 0), size)


def random_crop(data, rng):
    """Return a part of an image, from a single pixel to all of it, or a region within one."""
    whole = Crop.whole(data)
    size = np.array(whole.size)
    shape = {0: size, 1: np.array([1, 1])}.get(rng.integers(8), rng.integers(1, size + 1))
    anchor = rng.integers(0, size - shape + 1)
    start, end = np.zeros(2), shape.astype(float)
    if rng.random() < 0.5:  # as in evaluation: borders between pixels, and the filter sees beyond
        start = (shape * rng.uniform(0, 0.4, 2)).astype(np.float32)
        end = (shape * rng.uniform(0.6, 1, 2)).astype(np.float32)
    for axis in range(2):
        if rng.random() < 0.5:
            start[axis], end[axis] = end[axis], start[axis]
    pairs = {"anchor": anchor, "shape": shape, "start": start, "end": end}
    pairs = {name: tuple(pair.tolist()) for name, pair in pairs.items()}
    return replace(whole, **pairs, bicubic=bool(rng.random() < 0.5))


def decode(native, pool, crops, size=(48, 40)):
    """Return the (B, height, width, 3) images, and what failed: {position: (kind, reason)}."""
    out = np.full((len(crops), *size, 3), UNTOUCHED, np.uint8)
    failures = native.decode_crops(pool, *arguments(crops), out)
    return out, {position: (kind, reason) for position, kind, reason in failures}


def arguments(crops):
    return (
        [np.frombuffer(crop.data, np.uint8) for crop in crops],
        *(
            np.array([getattr(crop, name) for crop in crops], np.int32).reshape(-1, 2)
            for name in ("size", "anchor", "shape")
        ),
        *(
            np.array([getattr(crop, name) for crop in crops], np.float32).reshape(-1, 2)
            for name in ("start", "end")
        ),
        np.array([crop.bicubic for crop in crops], bool),
    )


def pil_image(crop, size=(48, 40)) -> NDArray[np.uint8]:
    """Return what PIL makes of a crop, going on where data end too early."""
    (top, left), (height, width) = crop.anchor, crop.shape
    low, high = np.minimum(crop.start, crop.end), np.maximum(crop.start, crop.end)
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        part = Image.open(io.BytesIO(crop.data)).convert("RGB")
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    part = part.crop((left, top, left + width, top + height))
    taps = Image.Resampling.BICUBIC if crop.bicubic else Image.Resampling.BILINEAR
    box = (low[1], low[0], high[1], high[0])
    pixels = np.asarray(part.resize(size[::-1], taps, box=tuple(map(float, box))))
    down, across = np.where(np.less(crop.end, crop.start), -1, 1)
    return pixels[::down, ::across]


def segments(data):
    """Return a JPEG's segments, [(marker, bytes)]; a scan's has its entropy-coded data too."""
    parts, at = [], 2
    while data[at + 1] != 0xD9:
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            while data[end] != 0xFF or data[end + 1] == 0 or 0xD0 <= data[end + 1] <= 0xD7:
                end += 1
        parts.append((marker, data[at:end]))
        at = end
    return parts


def joined(parts):
    return b"\xff\xd8" + b"".join(part for _, part in parts) + b"\xff\xd9"
