"""Plain USTAR archives, byte for byte what `tarfile` writes for the same members, but faster.

Times, owners and permissions are fixed, so the same members always give the same bytes. No PAX
headers: they cost 1 KiB for each member, and DALI cannot read the names in them.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

BLOCK = 512
RECORD = 20 * BLOCK
"""An archive's length is a multiple of it."""
NAME_BYTES = 100
_BUFFER_BYTES = 1 << 20
_MAX_SIZE = 8**11 - 1

_AFTER_NAME = b"0000644\0" + 2 * b"0000000\0"
_MTIME = b"00000000000\0"
_AFTER_CHECKSUM = (b"0".ljust(101, b"\0") + b"ustar\x0000").ljust(BLOCK - 156, b"\0")
_FIXED_SUM = sum(_AFTER_NAME + _MTIME + b" " * 8 + _AFTER_CHECKSUM)
_HEADER = b"%b" + _AFTER_NAME + b"%b" + _MTIME + b"%06o\0 " + _AFTER_CHECKSUM
_PADDING = bytes(BLOCK)


def tar_header(name: bytes, size: int) -> bytes:
    """Return the header block of a file.

    Raises:
        ValueError: if the name or the size does not fit a USTAR header.
    """
    if not 0 < len(name) <= NAME_BYTES:
        raise ValueError(f"a member name has 1 to {NAME_BYTES} bytes in USTAR, got {name!r}")
    if not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"a member has at most {_MAX_SIZE} bytes in USTAR, got {size}")
    digits = b"%011o\0" % size
    checksum = _FIXED_SUM + sum(name) + sum(digits)
    return _HEADER % (name.ljust(NAME_BYTES, b"\0"), digits, checksum)


def padded(data: bytes) -> bytes:
    """Return `data` filled up with zeros to whole blocks."""
    return data + _PADDING[: -len(data) % BLOCK]


class FixedMembers:
    """Members that many samples have alike, up to their names: KEY and a suffix.

    What does not depend on the key is prepared, which makes them four times as fast.
    """

    def __init__(self, members: Sequence[tuple[bytes, bytes]]) -> None:
        self._suffixes, self._sums, blocks = [], [], b""
        for suffix, data in members:
            digits = b"%011o\0" % len(data)
            self._suffixes.append(suffix)
            self._sums.append(_FIXED_SUM + sum(suffix) + sum(digits))
            after = b"\0 " + _AFTER_CHECKSUM + padded(data)
            blocks += b"%b" + _AFTER_NAME + digits + _MTIME + b"%06o" + after.replace(b"%", b"%%")
        self._blocks = blocks

    def blocks(self, key: bytes) -> bytes:
        """Return header, content and padding of each."""
        key_sum = sum(key)
        fields: list[bytes | int] = []
        for suffix, fixed_sum in zip(self._suffixes, self._sums, strict=True):
            fields += ((key + suffix).ljust(NAME_BYTES, b"\0"), fixed_sum + key_sum)
        return self._blocks % tuple(fields)


class TarWriter:
    """Appends members to a new archive at `path`.

    Members are gathered in one buffer that stays: large writes let the file system allocate large
    pages, which costs it less than a page for every 4 KiB, and a buffer of its own for each image
    would have to be mapped anew.

    Attributes:
        position: bytes appended so far, a multiple of 512.
        sha256: of the whole archive when it is finished, None unless wanted.
    """

    def __init__(self, path: Path, *, with_sha256: bool) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._filled = 0
        self.position = 0
        self.sha256 = hashlib.sha256() if with_sha256 else None

    def append(self, name: bytes, data: bytes, more: bytes = b"") -> int:
        """Append one member, and `more` blocks as they are; returns the offset of the data."""
        offset = self.position + BLOCK
        self._append(tar_header(name, len(data)), data, _PADDING[: -len(data) % BLOCK] + more)
        return offset

    def finish(self) -> None:
        """Write the end of the archive."""
        end = 2 * BLOCK
        self._append(bytes(end + -(self.position + end) % RECORD))
        self._flush()

    def close(self) -> None:
        """Close the file, finished or not."""
        os.close(self._file)

    def _append(self, *pieces: bytes) -> None:
        size = sum(map(len, pieces))
        if self._filled + size > _BUFFER_BYTES:
            self._flush()
        for piece in pieces:
            if size > _BUFFER_BYTES:
                self._write(memoryview(piece))
            else:
                end = self._filled + len(piece)
                self._buffer[self._filled : end] = piece
                self._filled = end
        self.position += size

    def _flush(self) -> None:
        self._write(self._buffer[: self._filled])
        self._filled = 0

    def _write(self, data: memoryview) -> None:
        if self.sha256 is not None:
            self.sha256.update(data)
        try:
            while data:  # a signal, or a disk that is nearly full, ends a write early
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
