"""WebDataset shards read at random: any sample by index."""

import resource
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from pipeline.errors import DataError
from pipeline.formats.index import read_index
from pipeline.formats.shard_folder import INDEX_NAME
from pipeline.formats.source import Sample
from pipeline.storage.bounded_file import BoundedFile
from pipeline.storage.tar_reader import member_name


class ShardSource:
    """A folder of shards with its index as a `Source`.

    Pickles as its path: another process opens the files anew.
    """

    def __init__(self, folder: Path) -> None:
        """Open the index of `folder` and see that every shard is there and whole.

        Raises:
            DataError: naming the shard that is missing or cut off, or what is wrong with the index.
        """
        self._folder = folder
        self._index = read_index(folder)
        self._check_shards()
        column = self._index.column
        self._shard, self._offset, self._length = map(column, ("shard", "offset", "length"))
        self._label, self._width, self._height = map(column, ("label", "width", "height"))
        self._crc32 = column("crc32")
        self._keys = self._index.table.column("key").chunk(0)
        self._files: dict[int, BoundedFile] = {}
        self._max_files = _allow_open_files(len(self._index.shards))
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["ShardSource"], tuple[object, ...]]:
        return type(self), (self._folder,)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names as the shards were made with."""
        return self._index.classes

    @property
    def labels(self) -> NDArray[np.integer]:
        """Class index of each sample."""
        return self._label

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples of each shard."""
        return tuple(shard.samples for shard in self._index.shards)

    @property
    def storage_order(self) -> NDArray[np.int64]:
        """Canonical indices in the order of the tars' members."""
        return np.lexsort((self._offset, self._shard))

    def __len__(self) -> int:
        return len(self._shard)

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Sample]:
        """Return the samples at `indices`, each checked against its checksum."""
        return [self._read(int(i)) for i in indices]

    def key(self, index: int) -> str:
        """As the index or the folder has it."""
        return self._keys[index].as_py()

    def describe(self, index: int) -> str:
        """Shard, key and offset."""
        shard = self._index.shards[self._shard[index]].name
        return f"{self._folder / shard}: {self._keys[index]} at byte {self._offset[index]}"

    def _read(self, index: int) -> Sample:
        offset, length = int(self._offset[index]), int(self._length[index])
        shard = self._file(int(self._shard[index]))
        data = shard.read(offset, length)
        if self._index.has_checksums and zlib_ng.crc32(data.data) != self._crc32[index]:
            raise DataError(f"{self.describe(index)}: {self._what_is_wrong(index, shard)}")
        return self._sample(index, data)

    def _sample(self, index: int, data: NDArray[np.uint8]) -> Sample:
        return Sample(
            key=self._keys[index].as_py(),
            data=data,
            label=int(self._label[index]),
            width=int(self._width[index]),
            height=int(self._height[index]),
        )

    def _what_is_wrong(self, index: int, shard: BoundedFile) -> str:
        """Tell damaged bytes from an index that was made for another shard."""
        name = member_name(shard.descriptor, int(self._offset[index]))
        key = self._keys[index].as_py()
        if name.rpartition(".")[0] != key:
            return f"the index does not fit the shard: the tar has {name!r} there"
        return (
            "the bytes are damaged: their checksum does not hold;"
            " tools/check_data.py --repair SOURCE makes the shard again"
        )

    def _file(self, shard: int) -> BoundedFile:
        file = self._files.get(shard)
        if file is not None:
            return file
        file = self._open(shard)
        with self._lock:
            if len(self._files) >= self._max_files:
                self._files.pop(next(iter(self._files)))  # who reads it keeps it open
            return self._files.setdefault(shard, file)

    def _open(self, shard: int) -> BoundedFile:
        return BoundedFile.open(self._folder / self._index.shards[shard].name)

    def _check_shards(self) -> None:
        for shard in self._index.shards:
            path = self._folder / shard.name
            if not path.is_file():
                raise DataError(
                    f"{path}: this shard is {'no file' if path.exists() else 'missing'};"
                    f" {INDEX_NAME} lists"
                    f" {len(self._index.shards)} shards. Copy it again, or make it again with"
                    " tools/check_data.py --repair SOURCE"
                )
            if (size := path.stat().st_size) != shard.size_bytes:
                change = "cut off" if size < shard.size_bytes else "not the one the index is for"
                raise DataError(
                    f"{path}: this shard is {change}: {size} bytes instead of {shard.size_bytes}."
                    " Copy it again, or make it again with tools/check_data.py --repair SOURCE"
                )


def _allow_open_files(wanted: int) -> int:
    """Return how many files may be kept open; up to half the limit.

    The limit is often 1024, which ImageNet in 1,281 shards exceeds: it is raised where that helps.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 2 * wanted:
        soft = 2 * wanted if hard == resource.RLIM_INFINITY else min(2 * wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft // 2))
