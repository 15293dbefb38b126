"""Images made anew: resized, re-encoded, or brought to the plain form that every reader knows.

Done by PIL and simplejpeg alone, whatever else is installed, because another decoder, filter or
encoder would give other bytes. Both decode with libjpeg-turbo, to the same pixels. simplejpeg is
faster where nothing lies between decoding and encoding, because PIL keeps four bytes a pixel.
"""

import io
from dataclasses import dataclass, field
from typing import NamedTuple

import simplejpeg
from PIL import Image, ImageOps, features

from pipeline.errors import UnusableImageError
from pipeline.images.header import ImageHeader, read_header
from pipeline.images.pixels import as_8_bits
from pipeline.images.usable import NORMALIZABLE, Oddity, check_usable, decoded, unusual

NORMALIZED_QUALITY = 95
"""Of an image that is converted because of its form, and else would be kept as it is."""

_SUBSAMPLING_420 = 2
_SUBSAMPLING_444 = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RecodeConfig:
    """What is done to images; by default nothing, and their bytes are kept."""

    resize: int = 0
    """Pixels of the short side of what is larger; 0 keeps sizes."""
    quality: int = 0
    """JPEG quality to which every image is encoded; 0 keeps the bytes. Needed to resize."""
    normalize: bool = False
    """Convert what is not a plain 8-bit RGB JPEG; turn it upright as EXIF says."""

    def __post_init__(self) -> None:
        if self.resize < 0:
            raise ValueError(f"resize must be a number of pixels (0: keep), got {self.resize}")
        if not (self.quality == 0 or 1 <= self.quality <= 100):
            raise ValueError(f"quality must be in 1..100 (0: keep the bytes), got {self.quality}")
        if self.resize and not self.quality:
            raise ValueError("resizing encodes anew: say with which quality, such as 90")

    @property
    def makes_jpegs(self) -> bool:
        """Whether all that is stored is a JPEG, made here or plain as it came."""
        return self.quality > 0 or self.normalize

    @property
    def codec(self) -> str:
        """What the bytes depend on besides the options; empty if they are kept."""
        if not self.makes_jpegs:
            return ""
        turbo = features.version("libjpeg_turbo")
        return (
            f"Pillow {Image.__version__}, libjpeg-turbo {turbo},"
            f" simplejpeg {simplejpeg.__version__}"
        )


class Recoded(NamedTuple):
    """An image ready to be stored."""

    data: bytes
    header: ImageHeader
    notes: Oddity


def must_convert(config: RecodeConfig, notes: Oddity) -> bool:
    """Whether an image with `notes` will be stored as other bytes than it has."""
    return config.quality > 0 or (config.normalize and bool(notes & NORMALIZABLE))


def convert(data: bytes, header: ImageHeader, notes: Oddity, config: RecodeConfig) -> Recoded:
    """Decode, resize if it is larger, encode as an RGB JPEG.

    An image that would only become larger is kept, if it is a plain JPEG and need not be resized:
    encoding again what was encoded harder only loses.

    Raises:
        UnusableImageError: if it cannot be decoded.
    """
    encoded, is_resized = None, False
    if _is_only_encoded(header, notes, config):
        encoded = _encode_anew(data, config.quality)
    if encoded is None:
        picture = _plain(decoded(data), upright=config.normalize)
        size = _target_size(picture.size, config.resize)
        if is_resized := size != picture.size:
            # Widened to the scale: no alias.
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        encoded = _encode(picture if picture.mode == "RGB" else picture.convert("RGB"), config)
    if not (is_resized or notes & NORMALIZABLE) and len(encoded) >= len(data):
        return Recoded(data, header, notes)
    dropped = notes & (NORMALIZABLE if config.normalize else NORMALIZABLE & ~Oddity.ROTATED)
    converted = Oddity.CONVERTED if dropped else Oddity(0)
    return Recoded(encoded, read_header(encoded), notes | converted)


def _is_only_encoded(header: ImageHeader, notes: Oddity, config: RecodeConfig) -> bool:
    """Whether the pixels of a plain JPEG are stored again as they are."""
    size = (header.width, header.height)
    is_plain = header.is_common and not notes & NORMALIZABLE
    return config.quality > 0 and is_plain and _target_size(size, config.resize) == size


def _encode_anew(data: bytes, quality: int) -> bytes | None:
    """Return the same pixels in another quality, None if something is wrong with the data."""
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:
        return None  # PIL says what is wrong with it, or goes on
    return simplejpeg.encode_jpeg(pixels, quality, "RGB", "420", fastdct=False)


def _plain(image: Image.Image, *, upright: bool) -> Image.Image:
    """Return it as RGB, or gray, which takes a quarter of the memory until it is resized."""
    if upright:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise UnusableImageError("cannot be converted", "its pixels are floating-point numbers")
    image = as_8_bits(image)
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _target_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    width, height = size
    if not 0 < short_side < min(size):
        return size
    scale = short_side / min(size)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _encode(picture: Image.Image, config: RecodeConfig) -> bytes:
    buffer = io.BytesIO()
    subsampling = _SUBSAMPLING_420 if config.quality else _SUBSAMPLING_444
    quality = config.quality or NORMALIZED_QUALITY
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """Which images are accepted, and in which form they are stored."""

    recode: RecodeConfig = field(default_factory=RecodeConfig)
    verify: bool = False
    """Decode every image, also those that are kept as they are."""


def prepare_image(data: bytes, location: str, config: ImageConfig) -> Recoded:
    """Return the image as it is to be stored.

    Raises:
        UnusableImageError: if it must not get into a data set.
    """
    try:
        header = read_header(data)
    except ValueError as error:
        raise UnusableImageError("not an image", str(error)) from error
    notes = unusual(header, location)
    is_converted = must_convert(config.recode, notes)
    # Converting decodes anyway, and makes a JPEG of whatever PIL can read; but of the damage to a
    # JPEG only a strict decoder tells.
    decode = config.verify and (header.format == "JPEG" or not is_converted)
    check_usable(header, data, must_load=not is_converted, decode=decode)
    if is_converted:
        return convert(data, header, notes, config.recode)
    return Recoded(data, header, notes)
