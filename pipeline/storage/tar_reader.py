"""Tar archives as a place where images lie: found by their headers, read at their offsets.

Nothing is unpacked, and no name in an archive is ever used as a path. An archive within an archive
is a range of bytes like any other, so images two levels deep are read as directly as files.
"""

import errno
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.storage.tar_writer import BLOCK, NAME_BYTES


class Member(NamedTuple):
    """A file in an archive: the last part of its name, and where its bytes are in the outer one."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarReader:
    """Reads ranges of the archive at `path`; a location is `offset:size:name`."""

    path: str

    def read(self, location: str) -> bytes:
        """Return the bytes of the range."""
        offset, size, _ = location.split(":", 2)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, int(size), int(offset))
            while len(data) < int(size):  # a network file system may return less at a time
                piece = os.pread(descriptor, int(size) - len(data), int(offset) + len(data))
                if not piece:
                    raise OSError(errno.EIO, "the archive ends in the middle of this member")
                data += piece
            return data
        finally:
            os.close(descriptor)

    def describe(self, location: str) -> str:
        """Return archive, name and offset."""
        offset, _, name = location.split(":", 2)
        return f"{self.path}: {name} at byte {offset}"


def member_name(archive: int | memoryview | NDArray[np.uint8], offset: int) -> str:
    """Return the name of the member whose content begins at `offset`.

    Args:
        archive: a descriptor, or what is mapped of it.
        offset: in bytes.
    """
    start = offset - BLOCK
    if isinstance(archive, int):
        name = os.pread(archive, NAME_BYTES, start)
    else:
        name = bytes(archive[start : start + NAME_BYTES])
    return name.rstrip(b"\0").decode(errors="replace")


def location_of(member: Member) -> str:
    """Return the location of a member, as `TarReader` takes it."""
    return f"{member.offset}:{member.size}:{member.name}"


def members(path: Path, within: Member | None = None) -> Iterator[Member]:
    """Yield the regular files of the archive at `path`, or of the one `within` it.

    Raises:
        DataError: if the archive is damaged or cut off, after the members before that place.
    """
    where = f"{path}: {within.name}" if within else str(path)
    start, end = (within.offset, within.offset + within.size) if within else (0, _size(path))
    with path.open("rb") as file:
        window = _Window(file, start, end)
        try:
            with tarfile.open(fileobj=window, mode="r:") as archive:
                while (info := archive.next()) is not None:
                    # tarfile keeps them all otherwise: 1 KB for each image.
                    archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
                    is_inside = 0 <= info.size <= end - start - info.offset_data
                    if not is_inside:
                        raise DataError(f"{where}: cut off in {info.name}; download it again")
                    if info.isreg() and not info.issparse():
                        name = PurePosixPath(info.name).name
                        yield Member(name, start + info.offset_data, info.size)
                _check_end(window, archive.offset, where)
        except (tarfile.TarError, ValueError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where}: not a readable tar archive: {error}") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _check_end(window: "_Window", offset: int, where: str) -> None:
    """Tell the end of an archive from headers that tarfile takes for it: missing or damaged."""
    window.seek(offset)
    if window.read(BLOCK) != bytes(BLOCK):
        raise DataError(
            f"{where}: damaged or cut off after {offset} bytes: no end of archive there;"
            " download it again"
        )


class _Window(io.RawIOBase):
    """The bytes from `start` to `end` of a file, as a file."""

    def __init__(self, file: io.BufferedReader, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET, "tarfile seeks from the start only"
        self._position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._start - self._position)
        self._file.seek(self._start + self._position)
        data = self._file.read(left if size < 0 else min(size, left))
        self._position += len(data)
        return data
