"""What the first bytes of an image say: format, size, channels. No pixel is decoded.

JPEG and PNG, which are nearly everything, are parsed here in microseconds; PIL knows the rest.
"""

import io
import struct
import warnings
from typing import NamedTuple

from PIL import Image

_SEGMENT = struct.Struct(">BBH").unpack_from
_FRAME = struct.Struct(">BHHB").unpack_from
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_COMMON_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive Huffman coding
_JPEG_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_JPEG_APP1 = 0xE1
_EXIF = b"Exif\0\0"  # XMP lies in segments of the same kind
_EXIF_ORIENTATION = 0x0112
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_WITH_ALPHA = (4, 6)


class ImageHeader(NamedTuple):
    """Size and kind of an encoded image, as stored (EXIF orientation is not applied).

    Attributes:
        format: "JPEG", "PNG" or PIL's name.
        channels: of colour, and one for alpha; a palette counts as the 3 that it stands for.
        bits: of one channel.
        is_common: whether every decoder knows this coding; only JPEG has others.
        orientation: EXIF's number, 1 if upright or not said.
    """

    format: str
    width: int
    height: int
    channels: int
    bits: int
    is_common: bool = True
    has_alpha: bool = False
    is_animated: bool = False
    orientation: int = 1


def read_header(data: bytes) -> ImageHeader:
    """Return the header of an encoded image.

    Raises:
        ValueError: saying what the bytes look like, if they are not the start of an image.
    """
    header = None
    if data[:2] == b"\xff\xd8":
        header = _jpeg_header(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        header = _png_header(data)
    return header or _pil_header(data)


def _jpeg_header(data: bytes) -> ImageHeader | None:
    """Walk the segments up to the frame header, which has the size."""
    position, end, orientation = 2, len(data) - 9, 0
    while position < end:
        start, marker, length = _SEGMENT(data, position)
        if start != 0xFF:
            return None
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in _JPEG_STANDALONE:
            position += 2
        elif marker in _JPEG_FRAMES:
            bits, height, width, channels = _FRAME(data, position + 4)
            if not (width and height):
                return None
            common = bits == 8 and marker in _JPEG_COMMON_FRAMES
            return ImageHeader(
                "JPEG", width, height, channels, bits, common, orientation=orientation or 1
            )
        else:
            is_app1 = marker == _JPEG_APP1 and not orientation  # the first Exif segment counts
            if is_app1 and data[position + 4 : position + 10] == _EXIF:
                orientation = _exif_orientation(data[position + 4 : position + 2 + length])
            position += 2 + length
    return None


def _exif_orientation(segment: bytes) -> int:
    """Look for the orientation in the first directory of an Exif segment; 1 if there is none."""
    if segment[6:8] not in (b"II", b"MM"):
        return 1
    tiff, order = segment[6:], "<" if segment[6:8] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for i in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * i)
            if tag == _EXIF_ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # cut off: such segments are common, and readers ignore them
        pass
    return 1


def _png_header(data: bytes) -> ImageHeader | None:
    if len(data) < 33 or data[12:16] != b"IHDR":
        return None
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    if not (width and height and kind in _PNG_CHANNELS):
        return None
    chunks = set()
    position = 8
    while position + 8 <= len(data) and b"IDAT" not in chunks:
        length, name = struct.unpack_from(">I4s", data, position)
        chunks.add(name)
        position += 12 + length
    return ImageHeader(
        format="PNG",
        width=width,
        height=height,
        channels=_PNG_CHANNELS[kind],
        bits=bits,
        has_alpha=kind in _PNG_WITH_ALPHA or b"tRNS" in chunks,
        is_animated=b"acTL" in chunks,
    )


def _pil_header(data: bytes) -> ImageHeader:
    if not data:
        raise ValueError("the file is empty (0 bytes)")
    try:
        # PIL warns of large pictures and damaged metadata; both are judged elsewhere.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return _header_of(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"decompression bomb: {error}") from error
    except Exception as error:  # decoders raise anything on hostile bytes
        raise ValueError(f"{_looks_like(data)}") from error


def _header_of(image: Image.Image) -> ImageHeader:
    bands = image.getbands()
    return ImageHeader(
        format=str(image.format),
        width=image.width,
        height=image.height,
        channels=3 if bands == ("P",) else len(bands),
        bits=16 if image.mode.startswith("I") else 32 if image.mode == "F" else 8,
        has_alpha="A" in bands or "transparency" in image.info,
        is_animated=getattr(image, "n_frames", 1) > 1,
    )


def _looks_like(data: bytes) -> str:
    start = data[:64].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it looks like a web page (HTML or XML), saved in place of the picture"
    if start[:2] == b"\xff\xd8":
        return f"a JPEG whose header is damaged or cut off ({len(data)} bytes)"
    if start.startswith(b"\x89png"):
        return f"a PNG whose header is damaged or cut off ({len(data)} bytes)"
    if not any(data[:512]):
        return "it starts with zeros, as after a failed copy"
    return f"it starts with {data[:8]!r}"
