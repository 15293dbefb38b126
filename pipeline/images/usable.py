"""Whether an image can be used, and what about it is unusual.

Unusable is what training would stumble over: bytes that are no image, that are cut off, that no
loader decodes, or that decode to gigabytes. Unusual is what can be used but is not a plain 8-bit
RGB JPEG; it is kept as it is or converted, and the report of a conversion lists it.
"""

import io
import warnings
from enum import IntFlag

import simplejpeg
from PIL import Image

from pipeline.errors import UnusableImageError
from pipeline.images.header import ImageHeader
from pipeline.images.names import member_extension

MAX_PIXELS = 178_956_970
"""Where PIL too refuses a picture as a decompression bomb; 0.5 GB as RGB."""

TINY_SIDE = 8
"""Pictures with a shorter side are noted: they are rarely meant."""

LOADABLE_FORMATS = frozenset(("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"))
"""What both DALI and PIL decode."""

_EXTENSIONS = {"JPEG": ("jpg",), "TIFF": ("tif", "tiff"), "PPM": ("ppm", "pgm")}


class Oddity(IntFlag):
    """What is unusual about an image; combined into one number for each."""

    GRAYSCALE = 1
    CMYK = 2
    NOT_JPEG = 4
    MISNAMED = 8
    DEEP = 16
    ALPHA = 32
    ROTATED = 64
    ANIMATED = 128
    TINY = 256
    CONVERTED = 512


ODDITY_TEXTS = {
    Oddity.GRAYSCALE: "grayscale",
    Oddity.CMYK: "CMYK or YCCK colours",
    Oddity.NOT_JPEG: "not a JPEG",
    Oddity.MISNAMED: "the name's extension is of another format",
    Oddity.DEEP: "more than 8 bits per channel",
    Oddity.ALPHA: "has transparency, which readers drop",
    Oddity.ROTATED: "EXIF says it is rotated; readers that train take the pixels as stored",
    Oddity.ANIMATED: "animated or several pages; the first is used",
    Oddity.TINY: f"a side of less than {TINY_SIDE} pixels",
}

NORMALIZABLE = (
    Oddity.GRAYSCALE
    | Oddity.CMYK
    | Oddity.NOT_JPEG
    | Oddity.DEEP
    | Oddity.ALPHA
    | Oddity.ROTATED
    | Oddity.ANIMATED
)
"""What converting to a plain JPEG removes."""


_PLAIN = Oddity(0)


def unusual(header: ImageHeader, location: str) -> Oddity:
    """Return what is unusual about the image at `location`, of which `header` was read."""
    is_jpeg = header.format == "JPEG"
    is_plain = is_jpeg and header.channels == 3 and header.bits == 8 and header.orientation == 1
    if is_plain and header.width >= TINY_SIDE <= header.height:
        return _PLAIN if member_extension(location) == "jpg" else Oddity.MISNAMED
    notes = Oddity(0)
    for note, applies in (
        (Oddity.GRAYSCALE, header.channels < 3),
        (Oddity.CMYK, is_jpeg and header.channels == 4),
        (Oddity.NOT_JPEG, not is_jpeg),
        (Oddity.MISNAMED, member_extension(location) not in _extensions(header.format)),
        (Oddity.DEEP, header.bits > 8),
        (Oddity.ALPHA, header.has_alpha),
        (Oddity.ROTATED, header.orientation != 1),
        (Oddity.ANIMATED, header.is_animated),
        (Oddity.TINY, min(header.width, header.height) < TINY_SIDE),
    ):
        if applies:
            notes |= note
    return notes


def check_usable(header: ImageHeader, data: bytes, *, must_load: bool, decode: bool) -> None:
    """Refuse an image that cannot be trained with.

    Args:
        header: of `data`.
        data: the whole encoded image.
        must_load: whether it will be stored as it is, so that loaders have to know its format.
        decode: decode it in any case, not only where it looks cut off.

    Raises:
        UnusableImageError: with the reason.
    """
    if header.width * header.height > MAX_PIXELS:
        raise UnusableImageError(
            "too many pixels",
            f"{header.width} x {header.height} from {len(data)} bytes: more than {MAX_PIXELS:,},"
            " as a decompression bomb has",
        )
    if must_load and header.format not in LOADABLE_FORMATS:
        raise UnusableImageError(
            "format that loaders do not know", f"{header.format}; --normalize makes a JPEG of it"
        )
    if decode and header.format == "JPEG" and header.is_common and header.channels in (1, 3):
        _decode_strictly(data)
    elif decode or not (header.is_common and _looks_complete(header, data)):
        decoded(data)


def _decode_strictly(data: bytes) -> None:
    """Decode a JPEG, and take the warnings of libjpeg for what they are: signs of damage.

    PIL and DALI go on after them in silence, with gray or shifted pixels from there on.
    """
    try:
        # The luminance alone is the quickest; all of the data has to be read for it.
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True)
    except ValueError as error:
        raise UnusableImageError("damaged", f"{error} ({len(data)} bytes)") from error


def decoded(data: bytes) -> Image.Image:
    """Decode an image with PIL, as it is.

    Raises:
        UnusableImageError: if that fails, also for the last pixel alone.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata
            image = Image.open(io.BytesIO(data))
            # By default PIL feeds its decoders 64 KiB at a time, which costs 8 % of the time.
            image.decodermaxblock = len(data) + 1
            image.load()
    except Exception as error:  # decoders raise anything on hostile bytes
        kind = "cut off" if "truncated" in str(error) else "cannot be decoded"
        raise UnusableImageError(kind, f"{error} ({len(data)} bytes)") from error
    return image


def _looks_complete(header: ImageHeader, data: bytes) -> bool:
    if header.format == "JPEG":
        return data.endswith(b"\xff\xd9")
    return header.format == "PNG" and data[-8:-4] == b"IEND"


def usual_extension(image_format: str) -> str:
    """Return the extension of files of one of `LOADABLE_FORMATS`, without a dot."""
    return _EXTENSIONS.get(image_format, (image_format.lower(),))[0]


def _extensions(image_format: str) -> tuple[str, ...]:
    return _EXTENSIONS.get(image_format, (image_format.lower(),))
