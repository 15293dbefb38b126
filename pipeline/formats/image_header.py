"""What the first bytes of an image say: format, size, channels. Nothing is decoded.

JPEG and PNG, which are nearly everything, are parsed here in microseconds; PIL knows the rest.
"""

import io
from typing import NamedTuple

from PIL import Image

Bytes = bytes | bytearray | memoryview

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PIL_MODES = {"1": (1, 1), "L": (1, 8), "LA": (2, 8), "P": (3, 8), "RGB": (3, 8), "RGBA": (4, 8)}


class ImageHeader(NamedTuple):
    """Size and kind of an encoded image, as stored (EXIF orientation is not applied).

    Attributes:
        format: "JPEG", "PNG" or PIL's name.
        channels: colour channels; a palette counts as the 3 it stands for. 0 if unknown.
        bits: of one channel; 0 if unknown.
    """

    format: str
    width: int
    height: int
    channels: int
    bits: int


def read_header(data: Bytes) -> ImageHeader:
    """Return the header of the encoded image `data`.

    Raises:
        ValueError: saying what the bytes look like, if they are not the start of an image.
    """
    header = None
    if data[:2] == b"\xff\xd8":
        header = _jpeg_header(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        header = _png_header(data)
    return header or _pil_header(data)


def _jpeg_header(data: Bytes) -> ImageHeader | None:
    position, end = 2, len(data) - 9
    while position < end:
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in _JPEG_STANDALONE:
            position += 2
        elif marker in _JPEG_FRAMES:
            bits, h1, h0, w1, w0, channels = data[position + 4 : position + 10]
            width, height = w1 << 8 | w0, h1 << 8 | h0
            return ImageHeader("JPEG", width, height, channels, bits) if width and height else None
        else:
            position += 2 + (data[position + 2] << 8 | data[position + 3])
    return None


def _png_header(data: Bytes) -> ImageHeader | None:
    if len(data) < 26 or data[12:16] != b"IHDR":
        return None
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    channels = _PNG_CHANNELS.get(data[25])
    if not (width and height and channels):
        return None
    return ImageHeader("PNG", width, height, channels, data[24])


def _pil_header(data: Bytes) -> ImageHeader:
    if not data:
        raise ValueError("the file is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data)) as image:
            channels, bits = _PIL_MODES.get(image.mode, (len(image.getbands()), 0))
            return ImageHeader(str(image.format), image.width, image.height, channels, bits)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not an image: {_looks_like(data)}") from error


def _looks_like(data: Bytes) -> str:
    start = bytes(data[:64]).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it looks like a web page (HTML or XML), saved in place of the picture"
    if start[:2] == b"\xff\xd8":
        return f"a JPEG whose header is damaged or cut off ({len(data)} bytes)"
    if start.startswith(b"\x89png"):
        return f"a PNG whose header is damaged or cut off ({len(data)} bytes)"
    if not any(data[:512]):
        return "it starts with zeros, as after a failed copy"
    return f"it starts with {bytes(data[:8])!r}"
