"""FFCV files (`.beton`) read at random: any sample by index.

FFCV is not needed. The format has no names, for samples or for classes; those that
tools/make_shards.py writes have them, and checksums, in an index beside the file. In a file made by
others samples are named by their number, and classes by theirs or by a list.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from pipeline.errors import DataError
from pipeline.formats.ffcv_tables import FfcvTables, read_tables
from pipeline.formats.index import Index, read_index
from pipeline.formats.shard_folder import INDEX_NAME
from pipeline.formats.source import MAX_CLASSES, Sample
from pipeline.storage.bounded_file import BoundedFile

_KEY_DIGITS = 9
"""Of a file without names; more comes from damage, and would fill the memory with numbers."""


class FfcvSource:
    """An FFCV file as a `Source`. Pickles as its path: another process opens the file anew."""

    def __init__(self, path: Path, classes: Sequence[str] | None = None) -> None:
        """Open the file, and its index if there is one.

        Args:
            path: of the file.
            classes: their names, for a file without an index; by default their numbers.

        Raises:
            DataError: if the file is damaged, or its index is of another one.
        """
        self._path = path
        self._given_classes = classes
        tables = read_tables(path)
        self._crc32: NDArray[np.integer] | None = None
        index = _index_of(path)
        if index is None:
            order = np.argsort(tables.labels, kind="stable")
            self._classes = _named_classes(path, classes, int(tables.labels.max()) + 1)
            self._keys = pa.array([f"{i:0{_KEY_DIGITS}d}" for i in order.tolist()], pa.string())
        else:
            order = _order_of(path, tables, index)
            self._classes = index.classes
            self._keys = index.table.column("key").chunk(0)
            self._crc32 = index.column("crc32") if index.has_checksums else None
        self._order = order
        self._tables = tables.take(order)
        self._file = BoundedFile.open(path)

    def __reduce__(self) -> tuple[partial["FfcvSource"], tuple[Path]]:
        return partial(type(self), classes=self._given_classes), (self._path,)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the index, or as given."""
        return self._classes

    @property
    def labels(self) -> NDArray[np.integer]:
        """Class index of each sample."""
        return self._tables.labels

    @property
    def keys(self) -> pa.StringArray:
        """Key of each sample."""
        return self._keys

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes that each sample takes."""
        return self._tables.sizes

    @property
    def is_raw(self) -> NDArray[np.bool_]:
        """Whether each sample is raw pixels."""
        return self._tables.is_raw

    @property
    def shapes(self) -> NDArray[np.int64]:
        """(N, 2), height and width of each sample."""
        return np.stack([self._tables.heights, self._tables.widths], axis=1)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """The file counts as one shard."""
        return (len(self),)

    @property
    def storage_order(self) -> NDArray[np.int64]:
        """Canonical indices in the order of the bytes in the file."""
        return np.argsort(self._tables.offsets, kind="stable")

    def __len__(self) -> int:
        return len(self._order)

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Sample]:
        """Return the samples at `indices`: JPEG bytes, or (H, W, 3) raw pixels."""
        return [self._read(int(i)) for i in indices]

    def key(self, index: int) -> str:
        """As the index or the folder has it."""
        return self._keys[index].as_py()

    def describe(self, index: int) -> str:
        """File, place in it, key."""
        return f"{self._path}: sample {self._order[index]} ({self._keys[index]})"

    def _read(self, index: int) -> Sample:
        tables = self._tables
        offset, size = int(tables.offsets[index]), int(tables.sizes[index])
        data = self._file.read(offset, size)
        if self._crc32 is not None and zlib_ng.crc32(data.data) != self._crc32[index]:
            raise DataError(
                f"{self.describe(index)}: the bytes are damaged: their checksum does not hold;"
                " make the file again with tools/make_shards.py --format ffcv"
            )
        width, height = int(tables.widths[index]), int(tables.heights[index])
        return Sample(
            key=self._keys[index].as_py(),
            data=data.reshape(height, width, 3) if tables.is_raw[index] else data,
            label=int(tables.labels[index]),
            width=width,
            height=height,
        )


def _index_of(path: Path) -> Index | None:
    """Return the index that lies beside the file, if it is of this file."""
    if not (path.parent / INDEX_NAME).exists():
        return None
    index = read_index(path.parent)
    if [shard.name for shard in index.shards] != [path.name]:
        return None
    if (size := path.stat().st_size) != index.shards[0].size_bytes:
        raise DataError(
            f"{path}: is {size} bytes long, and {INDEX_NAME} beside it was made for"
            f" {index.shards[0].size_bytes}; copy both again, or make them again"
        )
    return index


def _order_of(path: Path, tables: FfcvTables, index: Index) -> NDArray[np.int64]:
    """Return the place in the file of each sample of the index; both know where its bytes are."""
    by_offset = np.argsort(tables.offsets, kind="stable")
    wanted = index.column("offset")
    place = np.searchsorted(tables.offsets[by_offset], wanted)
    order = by_offset[np.minimum(place, len(by_offset) - 1)]
    columns = (
        (tables.offsets, "offset"),
        (tables.sizes, "length"),
        (tables.labels, "label"),
        (tables.widths, "width"),
        (tables.heights, "height"),
    )
    same = all(np.array_equal(column[order], index.column(name)) for column, name in columns)
    if len(order) != len(tables.offsets) or not same:
        raise DataError(
            f"{path}: {INDEX_NAME} beside it was made for another file, or one of them is"
            " damaged; copy both again, or make them again with tools/make_shards.py"
        )
    return order


def _named_classes(path: Path, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        if count > MAX_CLASSES:
            raise DataError(f"{path}: a label of {count - 1}: damaged, or not the index of a class")
        digits = len(str(count - 1))
        return tuple(f"{label:0{digits}d}" for label in range(count))
    if len(names) < count:
        raise DataError(f"{path}: has labels up to {count - 1}, but {len(names)} classes are given")
    return tuple(names)
