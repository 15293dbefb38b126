"""Plain USTAR archives, byte for byte what `tarfile` writes for the same members, but faster.

Times, owners and permissions are fixed, so the same members always give the same bytes. No PAX
headers: they cost 1 KiB for each member, and DALI cannot read the names in them.
"""

import hashlib
import os
from pathlib import Path

BLOCK = 512
_RECORD = 20 * BLOCK  # an archive's length is a multiple of it
_FLUSH_BYTES = 4 << 20
_FLUSH_PIECES = 512  # less than IOV_MAX
_NAME_BYTES = 100
_MAX_SIZE = 8**11 - 1

_AFTER_NAME = b"0000644\0" + 2 * b"0000000\0"
_MTIME = b"00000000000\0"
_AFTER_CHECKSUM = (b"0".ljust(101, b"\0") + b"ustar\x0000").ljust(BLOCK - 156, b"\0")
_FIXED_SUM = sum(_AFTER_NAME + _MTIME + b" " * 8 + _AFTER_CHECKSUM)
_PADDING = bytes(BLOCK)


def tar_header(name: bytes, size: int) -> bytes:
    """Return the header block of a file.

    Raises:
        ValueError: if the name or the size does not fit a USTAR header.
    """
    if not 0 < len(name) <= _NAME_BYTES:
        raise ValueError(f"a member name has 1 to {_NAME_BYTES} bytes in USTAR, got {name!r}")
    if not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"a member has at most {_MAX_SIZE} bytes in USTAR, got {size}")
    digits = b"%011o\0" % size
    checksum = _FIXED_SUM + sum(name) + sum(digits)
    return b"".join(
        (
            name.ljust(_NAME_BYTES, b"\0"),
            _AFTER_NAME,
            digits,
            _MTIME,
            b"%06o\0 " % checksum,
            _AFTER_CHECKSUM,
        )
    )


class TarWriter:
    """Appends members to a new archive at `path`.

    Attributes:
        position: bytes written so far, a multiple of 512.
        sha256: of the whole archive, None unless wanted.
    """

    def __init__(self, path: Path, *, with_sha256: bool) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._pieces: list[bytes] = []
        self._pending = 0
        self.position = 0
        self.sha256 = hashlib.sha256() if with_sha256 else None

    def append(self, name: bytes, data: bytes) -> int:
        """Append one member; returns the offset of its data."""
        header, padding = tar_header(name, len(data)), _PADDING[: -len(data) % BLOCK]
        offset = self.position + BLOCK
        self._pieces += (header, data, padding)
        length = BLOCK + len(data) + len(padding)
        self.position += length
        self._pending += length
        if self._pending >= _FLUSH_BYTES or len(self._pieces) >= _FLUSH_PIECES:
            self._flush()
        return offset

    def finish(self) -> None:
        """Write the end of the archive."""
        end = 2 * BLOCK
        end += -(self.position + end) % _RECORD
        self._pieces.append(bytes(end))
        self.position += end
        self._flush()

    def close(self) -> None:
        """Close the file, finished or not."""
        os.close(self._file)

    def _flush(self) -> None:
        pieces, self._pieces, self._pending = self._pieces, [], 0
        if self.sha256 is not None:
            for piece in pieces:
                self.sha256.update(piece)
        total = sum(map(len, pieces))
        written = os.writev(self._file, pieces)
        if written < total:  # a full disk or a signal: the rest in small steps, or an OSError
            rest = memoryview(b"".join(pieces))[written:]
            while rest:
                rest = rest[os.write(self._file, rest) :]
