"""The ImageNet layout: one folder for each class, its images inside; sub-folders are walked too.

Symbolic links are followed, as subsets of ImageNet are often built from them; a link that leads
back to a folder above itself is reported, not followed.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.formats.keys import is_image_name, sample_key
from pipeline.formats.scan import Problem, Scan
from pipeline.formats.source import DataError


@dataclass(frozen=True)
class FileReader:
    """Reads files below `root`; a location is a path relative to it."""

    root: str

    def read(self, location: str) -> bytes:
        """Return the content of the file."""
        descriptor = os.open(f"{self.root}/{location}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read_all(descriptor)
        finally:
            os.close(descriptor)

    def describe(self, location: str) -> str:
        """Return the path."""
        return f"{self.root}/{location}"


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    data = os.read(descriptor, size + 1)
    if len(data) == size:
        return data
    pieces = [data]  # a network file system may return less at a time
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def class_names(root: Path) -> tuple[str, ...]:
    """Return the names of the class folders in `root`, sorted.

    Raises:
        DataError: if there is no such folder or no class folder in it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one folder for each class in it")
    with os.scandir(root) as entries:
        names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    if names:
        return tuple(names)
    loose = sum(is_image_name(p.name) for p in root.iterdir())
    found = f"{loose} images lie in it directly" if loose else "it has no sub-folders"
    raise DataError(
        f"{root}: no class folders: {found}; put the images of each class into a folder of its own"
    )


def scan_class_folders(root: Path, classes: Sequence[str] | None = None) -> Scan:
    """List the images of each class folder in `root`.

    Args:
        root: the folder of class folders.
        classes: names of the classes, when another split defines them; by default the folders'.
    """
    found = class_names(root)
    classes = tuple(classes) if classes is not None else found
    walk = _Walk(str(root))
    walk.problems += [
        Problem("unknown class", name, "no class of the training split has this name")
        for name in sorted(set(found) - set(classes))
    ]
    missing = set(classes) - set(found)
    columns = [walk.read_class(name, exists=name not in missing) for name in classes]
    return Scan(
        classes=classes,
        keys=_join([c.keys for c in columns], pa.string()),
        locations=_join([c.locations for c in columns], pa.binary()),
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), [len(c.keys) for c in columns]),
        sizes=np.concatenate([c.sizes for c in columns]),
        stamps=np.concatenate([c.stamps for c in columns]),
        reader=FileReader(str(root)),
        problems=tuple(walk.problems),
        ignored=dict(sorted(walk.ignored.items())),
    )


def _join(arrays: list[pa.Array], kind: pa.DataType) -> pa.Array:
    return pa.chunked_array(arrays, kind).combine_chunks()


class _Entry(NamedTuple):
    key: str
    path: str
    size: int
    stamp: int


class _Columns(NamedTuple):
    keys: pa.StringArray
    locations: pa.BinaryArray
    sizes: NDArray[np.int64]
    stamps: NDArray[np.int64]


class _Walk:
    """Goes through the folders of a root and collects `problems` and `ignored` on the way."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.ignored: Counter[str] = Counter()

    def read_class(self, name: str, *, exists: bool) -> _Columns:
        """Return the entries of one class, sorted by key."""
        entries = sorted(self._files(name, ())) if exists else []
        if not entries:
            kind = "empty class" if exists else "missing class"
            detail = "no images in it" if exists else "the training split has it"
            self.problems.append(Problem(kind, name, detail))
        unique = self._without_duplicates(entries)
        return _Columns(
            pa.array([e.key for e in unique], pa.string()),
            pa.array([os.fsencode(e.path) for e in unique], pa.binary()),
            np.array([e.size for e in unique], np.int64),
            np.array([e.stamp for e in unique], np.int64),
        )

    def _files(self, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[_Entry]:
        """Yield the images in `folder` and below; `above` identifies the folders that led here."""
        path = f"{self.root}/{folder}"
        try:
            status = os.stat(path)  # noqa: PTH116 (a Path for each folder and file costs seconds)
            inode = (status.st_dev, status.st_ino)
            if inode in above:
                self._report("circular link", folder, "it leads back to a folder above itself")
                return
            with os.scandir(path) as found:
                for entry in found:
                    yield from self._entry(entry, f"{folder}/{entry.name}", (*above, inode))
        except OSError as error:
            self._report("unreadable folder", folder, os.strerror(error.errno or 0))

    def _entry(
        self, entry: os.DirEntry[str], path: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[_Entry]:
        if entry.name.startswith("."):
            self.ignored[entry.name if len(entry.name) < 20 else ".*"] += 1
        elif is_image_name(entry.name) and (image := self._image(entry, path)):
            yield image
        elif entry.is_dir():
            yield from self._files(path, above)
        elif not is_image_name(entry.name):
            self.ignored[os.path.splitext(entry.name)[1].lower() or "no extension"] += 1  # noqa: PTH122

    def _image(self, entry: os.DirEntry[str], path: str) -> _Entry | None:
        try:
            status = entry.stat()
        except OSError as error:
            self._report("unreadable file", path, os.strerror(error.errno or 0))
            return None
        if not stat.S_ISREG(status.st_mode):
            if not stat.S_ISDIR(status.st_mode):
                self._report("not a file", path, "a device, pipe or socket")
            return None
        if status.st_size == 0:
            self._report("empty file", path, "0 bytes")
            return None
        return _Entry(sample_key(path), path, status.st_size, status.st_mtime_ns)

    def _without_duplicates(self, entries: list[_Entry]) -> list[_Entry]:
        unique = entries[:1]
        for entry in entries[1:]:
            if entry.key == unique[-1].key:
                detail = f"its key, {entry.key}, is also that of {unique[-1].path}"
                self._report("same key", entry.path, detail)
            else:
                unique.append(entry)
        return unique

    def _report(self, kind: str, where: str, detail: str) -> None:
        self.problems.append(Problem(kind, where, detail))
