"""CIFAR as its authors have it: cifar-10-python.tar.gz and cifar-100-python.tar.gz.

The archives hold pickles; `array_pickle` reads them without their danger. Images become PNGs that
are not compressed: nothing is lost, and their size is known before they are made. `val` is the
authors' test set. CIFAR-100's labels are the 100 fine ones.
"""

import tarfile
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.formats.scan import Scan
from pipeline.images.pixels import encode_png, png_size
from pipeline.prepare.layouts.array_pickle import UnsafePickleError, load_arrays
from pipeline.prepare.layouts.scan_builder import ScanBuilder

_SIDE = 32
_MAX_BYTES = 1 << 29
"""The largest file in the archives has 155 MB."""


class _Kind(NamedTuple):
    splits: dict[str, tuple[str, ...]]
    meta: str
    names: bytes
    labels: bytes


KINDS = {
    "cifar-10-python.tar.gz": _Kind(
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "val": ("test_batch",)},
        "batches.meta",
        b"label_names",
        b"labels",
    ),
    "cifar-100-python.tar.gz": _Kind(
        {"train": ("train",), "val": ("test",)}, "meta", b"fine_label_names", b"fine_labels"
    ),
}


def scan_cifar(path: Path, split: str) -> Scan:
    """List the images of `split`, `train` or `val`, which is the authors' test set.

    Raises:
        DataError: if the archive is damaged, not of this layout, or holds what it must not.
    """
    kind, builder = KINDS[path.name], ScanBuilder()
    reader = CifarReader(str(path), split)
    names = _strings(path, _load(path, (kind.meta,))[kind.meta], kind.names)
    labels, size = reader.images().labels, png_size(_SIDE, _SIDE)
    if len(names) <= labels.max(initial=0) or labels.min(initial=0) < 0:
        raise DataError(f"{path}: labels up to {labels.max()}, and {len(names)} names of classes")
    stamp = path.stat().st_mtime_ns
    for row, label in enumerate(labels.tolist()):
        key = f"{names[label]}/{row:05d}"
        builder.add(key, f"{row:05d}.png", label=label, size=size, stamp=stamp)
    return builder.scan(names, reader)


class _Images(NamedTuple):
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class CifarReader:
    """Reads images of a split as PNGs; a location is `ROW.png`, counted over all its batches."""

    path: str
    split: str

    def read(self, location: str) -> bytes:
        """Return the image in that row."""
        return encode_png(self.images().pixels[int(location.partition(".")[0])])

    def describe(self, location: str) -> str:
        """Return archive, split and row."""
        return f"{self.path}: {self.split}, image {location.partition('.')[0]}"

    def images(self) -> _Images:
        """Return all images; they are loaded once in each process."""
        with _lock:
            if self not in _loaded:
                _loaded[self] = _load_split(Path(self.path), self.split)
            return _loaded[self]


_loaded: dict[CifarReader, _Images] = {}
_lock = threading.Lock()


def _load_split(path: Path, split: str) -> _Images:
    kind = KINDS[path.name]
    batches = _load(path, kind.splits[split])
    pixels, labels = [], []
    for name in kind.splits[split]:
        data, batch_labels = batches[name].get(b"data"), batches[name].get(kind.labels)
        if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2):
            raise DataError(f"{path}: {name} has no array of uint8 pixels")
        if data.shape[1] != 3 * _SIDE * _SIDE or not _are_integers(batch_labels, len(data)):
            raise DataError(f"{path}: {name} has rows of {data.shape[1]}, or not a label for each")
        pixels.append(data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))
        labels.append(np.array(batch_labels, np.int64))
    return _Images(np.ascontiguousarray(np.concatenate(pixels)), np.concatenate(labels))


def _are_integers(labels: object, count: int) -> bool:
    if not (isinstance(labels, list) and len(labels) == count):
        return False
    return all(type(label) is int for label in labels)


def _strings(path: Path, content: dict[bytes, object], name: bytes) -> tuple[str, ...]:
    strings = content.get(name)
    if not (isinstance(strings, list) and all(isinstance(s, bytes) for s in strings)):
        raise DataError(f"{path}: no list of class names in it")
    return tuple(s.decode() for s in strings)


def _load(path: Path, wanted: tuple[str, ...]) -> dict[str, dict[bytes, object]]:
    """Return the content of the pickles whose names end in `wanted`."""
    found: dict[str, dict[bytes, object]] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for info in archive:
                name = PurePosixPath(info.name).name
                if name in wanted and info.isreg() and info.size <= _MAX_BYTES:
                    content = archive.extractfile(info)
                    assert content is not None, "it is a regular file"
                    found[name] = _unpickled(f"{path}: {name}", content.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable archive: {error}; download it again") from error
    if missing := set(wanted) - set(found):
        raise DataError(f"{path}: {', '.join(sorted(missing))} not in it; download it again")
    return found


def _unpickled(where: str, data: bytes) -> dict[bytes, object]:
    try:
        content = load_arrays(data)
    except UnsafePickleError as error:
        raise DataError(f"{where}: {error}; download the archive again") from error
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected a dictionary, got {type(content).__name__}")
    return content
