"""Names: which files are images, and the key of a sample made from its file's path.

A key becomes the name of tar members, which readers split at the first dot (webdataset, DALI), list
in a text file separated by blanks (DALI's index) and keep in 100 bytes (USTAR). So a key is the
relative path without its extension, in which every byte that one of them would trip over is written
as %XX; what is then still too long is cut and ends in a hash of the path. The rule looks at one
path alone, so a key never depends on the other files.
"""

import hashlib
import os
import re
from collections.abc import Iterable

IMAGE_EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)
"""What torchvision's ImageFolder takes for an image, and GIF."""

MAX_KEY_BYTES = 94
"""100 bytes of a USTAR name, less a dot and five letters of extension."""

_SAFE_KEY = re.compile(r"[^\x00-\x20.\\\x7f/]+(?:/[^\x00-\x20.\\\x7f/]+)*")
_UNSAFE = re.compile(r"[\x00-\x20%.\\\x7f\ud800-\udfff]")
_HASH_DIGITS = 16


def is_image_name(name: str) -> bool:
    """Whether the extension of `name` is one of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS  # noqa: PTH122 (1.3 M calls)


def sample_key(path: str) -> str:
    """Return the key of the file at `path`, relative and with forward slashes."""
    stem = os.path.splitext(path)[0]  # noqa: PTH122
    key = _UNSAFE.sub(_escape, stem)
    if len(key) * 4 <= MAX_KEY_BYTES or len(key.encode()) <= MAX_KEY_BYTES:
        return key
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:_HASH_DIGITS]
    head = key.encode()[: MAX_KEY_BYTES - _HASH_DIGITS - 1].decode(errors="ignore")
    return f"{head}~{digest}"


def first_unsafe(keys: Iterable[str]) -> str | None:
    """Return the first of `keys` that `sample_key` never makes, None if all are as they should be.

    An index that came from elsewhere may hold any, such as one that leads out of a folder.
    """
    return next((key for key in keys if not _is_safe(key)), None)


def _is_safe(key: str) -> bool:
    return bool(_SAFE_KEY.fullmatch(key)) and len(key.encode()) <= MAX_KEY_BYTES


def member_extension(path: str) -> str:
    """Return the extension, without a dot, of the tar member for the file at `path`.

    Empty if it is none of an image: it must not be taken for a label, or for part of the key.
    """
    extension = os.path.splitext(path)[1].lower()  # noqa: PTH122 (1.3 M calls)
    if extension not in IMAGE_EXTENSIONS:
        return ""
    return "jpg" if extension in (".jpeg", ".jpe") else extension[1:]


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in os.fsencode(match.group()))
