"""Images to pixels and back, for conversions: decoded as the loaders do, encoded without loss."""

import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PNG_START = b"\x89PNG\r\n\x1a\n"
_STORED_BLOCK = 0xFFFF
_RGB_8_BIT = b"\x08\x02\x00\x00\x00"


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB, decoded, as stored: not turned by its EXIF, 16 bits cut to 8."""
    image.load()
    image = as_8_bits(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def as_8_bits(image: Image.Image) -> Image.Image:
    """Return gray of 16 bits in 8, by their upper ones as PIL has colours; others as they are."""
    if not image.mode.startswith("I"):
        return image
    # PIL itself would take all values above 255 for white.
    return Image.fromarray(np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8))


def png_size(height: int, width: int) -> int:
    """Return how many bytes `encode_png` makes of (height, width, 3) pixels."""
    rows = height * (1 + 3 * width)
    return len(_PNG_START) + 25 + (12 + 2 + 5 * -(-rows // _STORED_BLOCK) + rows + 4) + 12


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return (H, W, 3) pixels as a PNG that is not compressed.

    So its size is known before it is made, it is the same with any version of zlib, and reading it
    costs nothing; small photographs would hardly become smaller.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + _RGB_8_BIT
    return b"".join(
        (
            _PNG_START,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", _stored(rows.tobytes())),
            _chunk(b"IEND", b""),
        )
    )


def _stored(data: bytes) -> bytes:
    """Return `data` as a zlib stream of stored blocks (RFC 1950, RFC 1951)."""
    pieces = [b"\x78\x01"]
    for start in range(0, len(data), _STORED_BLOCK):
        block = data[start : start + _STORED_BLOCK]
        is_last = start + _STORED_BLOCK >= len(data)
        length = len(block)
        pieces += [bytes([is_last]), length.to_bytes(2, "little")]
        pieces += [(length ^ 0xFFFF).to_bytes(2, "little"), block]
    pieces.append(zlib.adler32(data).to_bytes(4, "big"))
    return b"".join(pieces)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum
