"""Feed damaged JPEGs to the decoder: it must refuse them, or make PIL's pixels of them.

    python native/fuzz/fuzz_decode.py --inputs 100000

README.md says how to build the extension with sanitizers for it.
"""

import argparse
import io
import struct
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from millstream_native import Pool, decode_crops
from numpy.typing import NDArray
from PIL import Image, ImageFile

_OUT = 24
_BATCH = 64
_MARKERS = bytes([0x00, 0x01, 0xC0, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xEE, 0xFF])
"""What follows 0xFF in a JPEG."""
_MOST_PIXELS = 1 << 22
"""Larger sizes come up in damaged headers, and cost PIL too much time."""

_PIL_ERRORS = (
    *(OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError),
    *(struct.error, Image.DecompressionBombError),
)
"""What PIL raises about damaged images."""


def seed_images() -> list[bytes]:
    """Return small JPEGs of every kind that PIL writes."""
    rng = np.random.default_rng(0)
    images = []
    for height, width in ((40, 56), (17, 33), (8, 8), (1, 30)):
        smooth = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        picture = smooth.resize((width, height), Image.Resampling.BICUBIC)
        in_color = (
            {"subsampling": 0},
            {"subsampling": 1, "optimize": True},
            {"subsampling": 2, "restart_marker_blocks": 3},
            {"subsampling": 2, "progressive": True},
            {"subsampling": 0, "progressive": True, "restart_marker_rows": 1},
            {"keep_rgb": True},
        )
        images.extend(_encoded(picture, **options) for options in in_color)
        images.append(_encoded(picture.convert("L")))
        images.append(_encoded(picture.convert("L"), progressive=True))
    return [*images, _encoded(Image.new("CMYK", (20, 20)))]


def _encoded(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80, **options)
    return buffer.getvalue()


def damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return `data` damaged in one of many ways, one of them with a part of `other`."""
    changed = bytearray(data)
    # Half of the time in the header, which is where decoders can be led astray.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 700)
    first, last = sorted(rng.integers(0, reach, 2))
    last = min(last, first + 40)
    kind = rng.integers(8)
    if kind == 0:
        return data[: rng.integers(0, len(data))]
    if kind == 1:
        for position in rng.integers(0, reach, rng.integers(1, 6)):
            changed[position] ^= 1 << rng.integers(8)
    elif kind == 2:
        for position in rng.integers(0, reach, rng.integers(1, 4)):
            changed[position] = rng.choice((0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF))
    elif kind == 3:
        changed[first:last] = rng.bytes(last - first)
    elif kind == 4:
        del changed[first:last]
    elif kind == 5:
        changed[first:first] = changed[first:last]
    elif kind == 6:
        changed[first : first + 2] = bytes([0xFF, rng.choice(list(_MARKERS))])
    else:
        return data[:first] + other[rng.integers(0, len(other)) :]
    return bytes(changed)


def pil_crop(
    data: bytes, size: tuple[int, int], part: tuple[list[int], list[int]], *, bicubic: bool
) -> NDArray[np.uint8] | None:
    """Return what PIL makes of a `part` (top and left, height and width), or None if it refuses.

    PIL is told to go on after damage; so it has pixels wherever the decoder may rightly have some.
    """
    (top, left), (height, width) = part
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            if image.format != "JPEG" or image.size != size[::-1]:
                return None
            pixels = image.convert("RGB").crop((left, top, left + width, top + height))
    except _PIL_ERRORS:
        return None
    taps = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    return np.asarray(pixels.resize((_OUT, _OUT), taps))


def _listed_size(data: bytes) -> tuple[int, int]:
    """Return the (height, width) that PIL sees, so that the decoder goes on; or any."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            width, height = Image.open(io.BytesIO(data)).size
    except _PIL_ERRORS:
        return 16, 16
    return (height, width) if 0 < height * width < _MOST_PIXELS else (16, 16)


def fuzz_batch(pool: Pool, images: list[bytes], rng: np.random.Generator) -> Counter[str]:
    """Decode one batch; return how often what was seen.

    Raises:
        AssertionError: if a picture differs from PIL's, or a refused one's place was written to.
    """
    sizes = [_listed_size(data) for data in images]
    corners, shapes = [], []
    for height, width in sizes:
        shape = rng.integers(1, (height + 1, width + 1))
        shapes.append(shape)
        corners.append(rng.integers(0, np.array([height, width]) - shape + 1))
    bicubic = rng.random(len(images)) < 0.5
    out = np.full((len(images), _OUT, _OUT, 3), 77, np.uint8)
    failures = decode_crops(
        pool,
        [np.frombuffer(data, np.uint8) for data in images],
        np.array(sizes, np.int32),
        np.array(corners, np.int32),
        np.array(shapes, np.int32),
        np.zeros((len(images), 2), np.float32),
        np.array(shapes, np.float32),
        bicubic,
        out,
    )
    refused = {position: kind for position, kind, _ in failures}
    seen = Counter(refused.values())
    for position, data in enumerate(images):
        if position in refused:
            assert (out[position] == 77).all(), f"written to: {data!r}"
            continue
        part = (corners[position].tolist(), shapes[position].tolist())
        expected = pil_crop(data, sizes[position], part, bicubic=bool(bicubic[position]))
        seen["accepted, PIL refuses" if expected is None else "accepted, equal to PIL"] += 1
        assert expected is None or (out[position] == expected).all(), f"{part} of {data!r}"
    return seen


def main(argv: list[str] | None = None) -> int:
    """Run the fuzzer; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="feed damaged JPEGs to the decoder")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    rng = np.random.default_rng(args.seed)
    seeds = seed_images()
    seen: Counter[str] = Counter()
    kept = Path(tempfile.gettempdir()) / "fuzz_decode_batch.txt"
    print(f"if this crashes, {kept} has the images that did it")
    with Pool(2) as pool:
        while seen.total() < args.inputs:
            first, second = rng.integers(0, len(seeds), (2, _BATCH))
            images = [damaged(seeds[i], seeds[j], rng) for i, j in zip(first, second, strict=True)]
            kept.write_text("\n".join(map(repr, images)))
            seen += fuzz_batch(pool, images, rng)
    print(f"{seen.total()} inputs:", ", ".join(f"{count} {what}" for what, count in seen.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
