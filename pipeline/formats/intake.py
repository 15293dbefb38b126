"""What happens to one image between the source and the shard: read, checked, converted or kept."""

from dataclasses import dataclass, field

from pipeline.errors import UnusableImageError
from pipeline.formats.image_check import check_usable, unusual
from pipeline.formats.image_header import read_header
from pipeline.formats.recode import RecodeConfig, Recoded, convert, must_convert


@dataclass(frozen=True, kw_only=True, slots=True)
class IntakeConfig:
    """Which images are accepted, and in which form they are stored."""

    recode: RecodeConfig = field(default_factory=RecodeConfig)
    verify: bool = False
    """Decode every image, also those that are kept as they are."""


def take_in(data: bytes, location: str, config: IntakeConfig) -> Recoded:
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
