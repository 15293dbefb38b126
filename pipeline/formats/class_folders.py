"""The ImageNet layout: one folder for each class, its images inside; sub-folders are walked too.

Symbolic links are followed, as subsets of ImageNet are often built from them; a link that leads
back to a folder above itself is reported, not followed.
"""

import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError, Problem
from pipeline.formats.scan import Scan, TextColumn
from pipeline.images.names import is_image_name, sample_key
from pipeline.words import counted


@dataclass(frozen=True)
class FileReader:
    """Reads files below `root`; a location is a path relative to it."""

    root: str

    def read(self, location: str) -> bytes:
        """Return the content of the file."""
        descriptor = os.open(f"{self.root}/{location}", os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            data = os.read(descriptor, size + 1)
            return data if len(data) == size else data + _rest(descriptor)
        finally:
            os.close(descriptor)

    def describe(self, location: str) -> str:
        """Return the path."""
        return f"{self.root}/{location}"


def _rest(descriptor: int) -> bytes:
    """Read on: a network file system may return less than there is."""
    pieces = []
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
        names = sorted(e.name for e in entries if not e.name.startswith(".") and _is_folder(e))
    if names:
        return tuple(names)
    loose = sum(is_image_name(p.name) for p in root.iterdir())
    found = f"it has {counted(loose, 'loose image')}" if loose else "it has no sub-folders"
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
    walk.look_between_classes()
    walk.problems += [
        Problem("unknown class", name, "no class of the training split has this name")
        for name in sorted(set(found) - set(classes))
    ]
    missing = set(classes) - set(found)
    keys, locations, sizes, stamps = TextColumn(), TextColumn(), array("q"), array("q")
    counts = []
    for name in classes:
        entries = walk.read_class(name, exists=name not in missing)
        keys.extend(entry.key.encode() for entry in entries)
        locations.extend(os.fsencode(entry.path) for entry in entries)
        sizes.extend(entry.size for entry in entries)
        stamps.extend(entry.stamp for entry in entries)
        counts.append(len(entries))
    return Scan(
        classes=classes,
        keys=keys.take(pa.string()),
        locations=locations.take(pa.binary()),
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), counts),
        sizes=np.frombuffer(sizes, np.int64),
        stamps=np.frombuffer(stamps, np.int64),
        reader=FileReader(str(root)),
        problems=tuple(walk.problems),
        ignored=dict(sorted(walk.ignored.items())),
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or leads to one; a link to nothing, or in a circle, does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


class _Entry(NamedTuple):
    key: str
    path: str
    size: int
    stamp: int


class _Walk:
    """Goes through the folders of a root and collects `problems` and `ignored` on the way."""

    def __init__(self, root: str) -> None:
        self.root = root
        # A link to where the images lie would bring other classes, or splits, into this one.
        resolved = Path(root).resolve()
        above = (path.stat() for path in (resolved, *resolved.parents))
        self._above = tuple((status.st_dev, status.st_ino) for status in above)
        self.problems: list[Problem] = []
        self.ignored: Counter[str] = Counter()

    def look_between_classes(self) -> None:
        """Report or count what lies beside the class folders: it belongs to no class."""
        with os.scandir(self.root) as found:
            for entry in sorted(found, key=lambda entry: entry.name):
                is_loose = is_image_name(entry.name) and not entry.name.startswith(".")
                if is_loose and not _is_folder(entry):
                    self._report("loose image", entry.name, "it lies in no class folder")
                elif entry.name.startswith(".") or not _is_folder(entry):
                    self._set_aside(entry, entry.name)

    def read_class(self, name: str, *, exists: bool) -> list[_Entry]:
        """Return the entries of one class, sorted by key."""
        entries = sorted(self._files(name, self._above)) if exists else []
        if not entries:
            kind = "empty class" if exists else "missing class"
            detail = "no images in it" if exists else "the training split has it"
            self.problems.append(Problem(kind, name, detail))
        return self._without_duplicates(entries)

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
            self._set_aside(entry, path)
        elif _is_folder(entry):
            yield from self._files(path, above)
        elif not is_image_name(entry.name):
            self._set_aside(entry, path)
        elif image := self._image(entry, path):
            yield image

    def _set_aside(self, entry: os.DirEntry[str], path: str) -> None:
        """Count what is no image by name, unless it is a link that may have led to images."""
        if entry.name.startswith("."):
            self.ignored[entry.name if len(entry.name) < 20 else ".*"] += 1
        elif entry.is_symlink() and not os.path.exists(f"{self.root}/{path}"):  # noqa: PTH110
            self._report("broken link", path, "it leads to nothing, or back to itself")
        else:
            self.ignored[os.path.splitext(entry.name)[1].lower() or "no extension"] += 1  # noqa: PTH122

    def _image(self, entry: os.DirEntry[str], path: str) -> _Entry | None:
        try:
            status = entry.stat()
        except OSError as error:
            self._report("unreadable file", path, os.strerror(error.errno or 0))
            return None
        if not stat.S_ISREG(status.st_mode):
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
