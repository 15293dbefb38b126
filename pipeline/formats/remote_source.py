"""Shards at a URL as a `Source`: read through the cache, fetched ahead in the order of an epoch."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from pipeline.errors import DataError, StorageError
from pipeline.formats.shard_cache import CacheConfig, ShardCache
from pipeline.formats.shard_folder import INDEX_NAME, MANIFEST_NAME
from pipeline.formats.shard_prefetch import ReadAhead, ShardUse
from pipeline.formats.shard_source import ShardSource
from pipeline.formats.source import Sample
from pipeline.storage.bounded_file import BoundedFile
from pipeline.storage.files import write_atomically
from pipeline.storage.remote import RemoteFolder
from pipeline.storage.retry import Retry

_log = logging.getLogger(__name__)

_BLOCK_BYTES = 8 << 20
_DOWNLOADS = 2
"""Of a shard that arrives damaged."""


class _FetchError(DataError):
    """A shard does not arrive, as opposed to one whose copy is damaged."""


class _NoRoomError(Exception):
    """The cache is full of shards that are in use."""


class RemoteShardSource(ShardSource):
    """A remote folder of shards. Pickles as its URL and the cache's place."""

    def __init__(self, url: str, cache: CacheConfig, retry: Retry | None = None) -> None:
        """Fetch the index, unless the cache has it.

        Raises:
            DataError: naming the URL, if it cannot be read or its shards are not complete.
        """
        self._remote = RemoteFolder(url, retry or Retry())
        self._place = cache
        sha256 = _index_sha256(self._remote)
        self._cache = ShardCache(self._place, f"{url} {sha256}")
        if not (self._cache.folder / INDEX_NAME).exists():
            content = _read(self._remote, INDEX_NAME)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise DataError(f"{url}: {INDEX_NAME} is not the one of {MANIFEST_NAME}")
            write_atomically(self._cache.folder / INDEX_NAME, content)
        super().__init__(self._cache.folder)
        self._sizes = np.array([shard.size_bytes for shard in self._index.shards], np.int64)
        self._ahead: ReadAhead | None = None
        self._has_warned = False

    def __reduce__(self) -> tuple[type["RemoteShardSource"], tuple[str, CacheConfig, Retry]]:
        return type(self), (self._remote.url, self._place, self._remote.retry)

    def describe(self, index: int) -> str:
        """URL of the shard, key and offset."""
        url = self._remote.locate(self._index.shards[self._shard[index]].name)
        return f"{url}: {self._keys[index]} at byte {self._offset[index]}"

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Sample]:
        """Return the samples at `indices`; a shard whose copy was damaged is fetched again."""
        if self._ahead is not None:
            for shard in np.unique(self._shard[np.asarray(indices, np.int64)]).tolist():
                self._ahead.notice(shard)
        try:
            return super().read_many(indices)
        except _FetchError:
            raise
        except DataError:
            return [self._read_anew(int(index)) for index in indices]

    @contextmanager
    def following(self, order: NDArray[np.int64]) -> Iterator[None]:
        """Fetch the shards of the samples in `order` ahead of their use.

        Raises:
            DataError: if more shards are needed at once than the cache may hold.
        """
        use = ShardUse(self._shard[order], self._sizes)
        limit = self._cache.limit_bytes
        if (peak := use.peak_bytes()) > limit:
            raise DataError(
                f"{self._remote.url}: reading in this order needs {peak / 1e9:,.1f} GB of shards at"
                f" once, and the cache may take {limit / 1e9:,.1f} GB: raise data.cache_gb, or set"
                " data.window to the number of shards that are shuffled together (lower it if it"
                " is set)"
            )
        ahead = ReadAhead(use, limit_bytes=limit, fetch=self._fetch, release=self._release)
        self._ahead = ahead
        try:
            yield
        finally:
            ahead.close()
            if self._ahead is ahead:
                self._ahead = None

    def _check_shards(self) -> None:
        """Sizes are checked when shards arrive."""

    def _open(self, shard: int) -> BoundedFile:
        name = self._index.shards[shard].name
        while (descriptor := self._cache.open(name)) is None:
            if not self._fetch(shard):
                raise _NoRoomError
        return BoundedFile(descriptor, str(self._cache.folder / name))

    def _read(self, index: int) -> Sample:
        try:
            return super()._read(index)
        except _NoRoomError:
            return self._read_alone(index)

    def _read_alone(self, index: int) -> Sample:
        """Read one sample past the cache, all of whose shards are in use: slow, but no deadlock."""
        name = self._index.shards[self._shard[index]].name
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "%s: the cache is full of shards in use, so images are fetched one by one, which is"
                " slow; raise data.cache_gb",
                self._cache.folder,
            )
        start = int(self._offset[index])
        with _named(self._remote.locate(name)):
            data = self._remote.read_range(name, start, start + int(self._length[index]))
        if self._index.has_checksums and zlib_ng.crc32(data) != self._crc32[index]:
            raise _FetchError(f"{self.describe(index)}: arrives damaged: its checksum fails")
        return self._sample(index, np.frombuffer(data, np.uint8))

    def _fetch(self, shard: int, keep: Iterable[int] | None = None) -> bool:
        shards = self._index.shards
        entry = shards[shard]
        names = None if keep is None else frozenset(shards[other].name for other in keep)
        fill = partial(self._download, shard)
        with _named(self._remote.locate(entry.name)):
            return self._cache.add(entry.name, entry.size_bytes, fill, keep=names)

    def _download(self, shard: int, part: Path) -> None:
        """Fetch a shard block by block, so that a dropped connection costs one block."""
        entry = self._index.shards[shard]
        for attempts_left in reversed(range(_DOWNLOADS)):
            with part.open("r+b") as file:
                for start in range(0, entry.size_bytes, _BLOCK_BYTES):
                    end = min(start + _BLOCK_BYTES, entry.size_bytes)
                    file.write(self._remote.read_range(entry.name, start, end))
            if (damaged := self._damaged(shard, part)) is None:
                return
            if not attempts_left:
                where = self.describe(damaged)
                raise _FetchError(f"{where}: arrives damaged: its checksum does not hold")

    def _damaged(self, shard: int, path: Path) -> int | None:
        """Return the first sample in the file at `path` whose checksum does not hold."""
        if not self._index.has_checksums:
            return None
        file = BoundedFile.open(path)
        for index in np.flatnonzero(self._shard == shard).tolist():
            content = file.read(int(self._offset[index]), int(self._length[index]))
            if zlib_ng.crc32(content.data) != self._crc32[index]:
                return index
        return None

    def _read_anew(self, index: int) -> Sample:
        """Read a sample; if its shard is damaged in the cache, from a new copy."""
        try:
            return self._read(index)
        except _FetchError:
            raise
        except DataError:
            shard = int(self._shard[index])
            self._release([shard])
            self._cache.remove(self._index.shards[shard].name)
            return self._read(index)

    def _release(self, shards: Iterable[int]) -> None:
        with self._lock:
            for shard in shards:
                self._files.pop(shard, None)


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Turn errors of the network and the disk into such as name the URL."""
    try:
        yield
    except StorageError as error:
        raise _FetchError(str(error)) from error
    except OSError as error:
        raise _FetchError(f"{url}: cannot be fetched: {error.strerror or error}") from error


def _index_sha256(remote: RemoteFolder) -> str:
    url = remote.locate(MANIFEST_NAME)
    try:
        return json.loads(_read(remote, MANIFEST_NAME))["index"]["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{url}: not a manifest of shards: {error}") from error


def _read(remote: RemoteFolder, name: str) -> bytes:
    url = remote.locate(name)
    try:
        return remote.read(name)
    except FileNotFoundError as error:
        raise DataError(
            f"{url}: there is no such file; the conversion is not finished, or this is not a folder"
            " of shards that tools/make_shards.py made"
        ) from error
    except (OSError, StorageError) as error:
        raise DataError(str(error)) from error
