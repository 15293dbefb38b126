"""A bounded folder of downloaded shards, shared by all processes of a machine.

A shard in use is never removed, and one that is removed is used by nobody: who reads a shard holds
a shared lock on the file for as long as it is open, and removing needs the lock alone. So the
bound holds for the disk, not only for the directory. Room is taken before a download begins.
"""

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import DataConfig
from pipeline.errors import DataError

_PART_SUFFIX = ".part"
_SHARD_SUFFIXES = (".tar", _PART_SUFFIX)
_LOCKS = "locks"


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where downloaded shards are kept, and how much room they may take."""

    folder: Path
    limit_bytes: int


def cache_config(data: DataConfig) -> CacheConfig:
    """Return the cache that a recipe asks for."""
    # $TMPDIR is what clusters point to the local disk of a job.
    default = Path(tempfile.gettempdir(), f"millstream-cache-{os.getuid()}")
    folder = Path(data.cache_dir).expanduser() if data.cache_dir else default
    return CacheConfig(folder=folder, limit_bytes=int(data.cache_gb * 1e9))


class ShardCache:
    """The shards of one data set in a cache folder, which those of others share."""

    def __init__(self, config: CacheConfig, data_set: str) -> None:
        """Make the folders.

        Args:
            config: folder and bound of the whole cache.
            data_set: what identifies the data set, its version included.
        """
        self._root = config.folder
        self.limit_bytes = config.limit_bytes
        self.folder = self._root / hashlib.sha256(data_set.encode()).hexdigest()[:16]
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be made ({error.strerror}); set data.cache_dir"
            ) from error

    def open(self, name: str) -> int | None:
        """Return a descriptor of a shard that keeps it in the cache while open; None: not there."""
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink == 0:  # removed between the two calls
            os.close(descriptor)
            return None
        self.touch(name)
        return descriptor

    def touch(self, name: str) -> bool:
        """Count a shard as just used; whether it is there."""
        try:
            os.utime(self.folder / name)
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a shard that turned out to be damaged."""
        (self.folder / name).unlink(missing_ok=True)

    def add(
        self,
        name: str,
        size_bytes: int,
        fill: Callable[[Path], None],
        *,
        keep: Container[str] | None = None,
    ) -> bool:
        """Put a shard into the cache unless it is there.

        Args:
            name: of the shard.
            size_bytes: of the shard.
            fill: writes it to a path where a file of this size lies.
            keep: shards that this one is not worth; it does not wait for another process that is at
                it either. None: it is needed now.

        Returns:
            Whether the shard is there; not if there is no room that is free of shards in use, or if
            another process is at it.
        """
        with self._locked(self.folder / _LOCKS / name, wait=keep is None) as held:
            if not held:
                return False
            if self.touch(name):
                return True
            part = self.folder / f"{name}{_PART_SUFFIX}"
            if not self._reserve(part, size_bytes, keep or ()):
                return False
            try:
                fill(part)
                with self._locked(self._root / "lock", wait=True):  # so that none is overlooked
                    part.replace(self.folder / name)
            finally:
                part.unlink(missing_ok=True)
            return True

    def _reserve(self, part: Path, size_bytes: int, keep: Container[str]) -> bool:
        """Make room, oldest shards first, and take it."""
        if size_bytes > self.limit_bytes:
            raise DataError(
                f"{part.name.removesuffix(_PART_SUFFIX)}: {size_bytes:,} bytes are more than the"
                f" cache may hold, {self.limit_bytes:,}; raise data.cache_gb"
            )
        with self._locked(self._root / "lock", wait=True):
            part.unlink(missing_ok=True)  # of a process that was killed
            files = sorted((s.st_mtime_ns, s.st_size, path) for path, s in self._files())
            total = sum(size for _, size, _ in files)
            for _, size, path in files:
                if total + size_bytes <= self.limit_bytes:
                    break
                is_kept = path.parent == self.folder and path.name in keep
                if not is_kept and self._evict(path):
                    total -= size
            if total + size_bytes > self.limit_bytes:
                return False
            self._allocate(part, size_bytes)
            return True

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._root.glob("*/*"):
            if path.suffix in _SHARD_SUFFIXES:
                try:
                    yield path, path.stat()
                except FileNotFoundError:
                    continue  # renamed or removed meanwhile

    def _evict(self, path: Path) -> bool:
        """Remove a shard that nobody uses, or what a killed process left; whether it is gone."""
        is_part = path.suffix == _PART_SUFFIX
        lock = path.parent / _LOCKS / path.stem if is_part else path
        with self._locked(lock, wait=False) as held:
            if held:
                path.unlink(missing_ok=True)
            return held

    def _allocate(self, part: Path, size_bytes: int) -> None:
        with part.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size_bytes)
            except OSError as error:
                part.unlink()
                if error.errno == errno.ENOSPC:
                    raise DataError(
                        f"{self._root}: the disk has no {size_bytes:,} bytes left for a shard;"
                        " lower data.cache_gb, or set data.cache_dir to another disk"
                    ) from error
                raise

    @contextmanager
    def _locked(self, path: Path, *, wait: bool) -> Iterator[bool]:
        """Hold a lock on the file at `path`; whether it is held."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _try_lock(descriptor, wait=wait)
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
