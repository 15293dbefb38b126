"""Files at s3://, gs:// and http(s):// through fsspec: listed, read, written, each with retries.

An object of a store appears when all of it has arrived, so nothing half-written is ever visible.
"""

import errno
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import fsspec

from pipeline.errors import DataError, StorageError
from pipeline.storage.retry import Retry, try_often

SCHEMES = ("s3", "gs", "http", "https")
_UPLOAD_PART_BYTES = 16 << 20
_UPLOAD_PARTS_AT_ONCE = 4
_CONNECT_S, _READ_S = 20, 60
_REQUESTS_AT_ONCE = 16


class RemoteFile(NamedTuple):
    """A file below a remote folder: its path relative to that, its size, what changes with it."""

    path: str
    size: int
    stamp: int


def is_url(location: str) -> bool:
    """Whether `location` is a URL rather than a path."""
    return "://" in location


@dataclass(frozen=True)
class RemoteFolder:
    """What lies below `url`. Picklable; safe to use from several threads.

    Methods raise OSError if a file is not there or may not be used, and StorageError if the service
    fails in spite of all retries.
    """

    url: str
    retry: Retry = field(default_factory=Retry)

    def __post_init__(self) -> None:
        scheme = self.url.partition("://")[0]
        if scheme not in SCHEMES:
            known = ", ".join(f"{name}://" for name in SCHEMES)
            raise DataError(f"{self.url}: unknown scheme {scheme}://; there are {known} and paths")
        object.__setattr__(self, "url", self.url.rstrip("/"))

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.url}/{name}", self.retry)

    @property
    def is_store(self) -> bool:
        """Whether it is an object store, which can be written and listed with sizes."""
        return not self.url.startswith("http")

    def locate(self, path: str) -> str:
        """Return the URL of a file."""
        return f"{self.url}/{path}" if path else self.url

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        url = self.locate(path)
        return try_often(lambda: _bytes(_filesystem(url).cat_file(url)), url, self.retry)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end` of a file that has so many."""
        url = self.locate(path)

        def action() -> bytes:
            data = _bytes(_filesystem(url).cat_file(url, start=start, end=end))
            if len(data) > end - start:
                raise StorageError(f"{url}: the server ignores Range requests; it cannot be used")
            if len(data) < end - start:
                raise OSError(errno.EIO, f"{len(data)} bytes arrived of {end - start}")
            return data

        return try_often(action, url, self.retry)

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        url = self.locate(path)
        size = try_often(lambda: _filesystem(url).info(url)["size"], url, self.retry)
        if not isinstance(size, int):
            raise StorageError(f"{url}: the server does not say how large it is")
        return size

    def files(self, path: str = "") -> list[RemoteFile]:
        """Return all files below `path`, at any depth, sorted; none if there is no such folder.

        Over http(s) folders must be listed by the server (nginx: autoindex), and the size of each
        file takes a request.
        """
        url = self.locate(path)
        filesystem = _filesystem(url)
        prefix = f"{filesystem._strip_protocol(self.url)}/"
        try:
            found = try_often(lambda: dict(filesystem.find(url, detail=True)), url, self.retry)
        except FileNotFoundError:
            return []
        paths = sorted(name.removeprefix(prefix) for name in found)
        if self.is_store:
            infos = [found[prefix + path] for path in paths]
            return [
                RemoteFile(path, info["size"], _stamp(info))
                for path, info in zip(paths, infos, strict=True)
            ]
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            return [RemoteFile(*f, 0) for f in zip(paths, pool.map(self.size, paths), strict=True)]

    def children(self) -> tuple[list[str], list[str]]:
        """Return the names of the folders and files right below; none if there is nothing."""

        def action() -> list[dict[str, str]]:
            # A server lists a folder under its name with a slash at the end.
            return list(_filesystem(self.url).ls(f"{self.url}/", detail=True))

        try:
            found = try_often(action, self.url, self.retry)
        except FileNotFoundError:
            return [], []
        folders, files = (
            sorted(f["name"].rstrip("/").rpartition("/")[2] for f in found if f["type"] == kind)
            for kind in ("directory", "file")
        )
        if self.is_store:
            return folders, files
        return [unquote(name) for name in folders], [unquote(name) for name in files]

    def quoted(self, name: str) -> str:
        """Return a name as it appears in URLs of this folder's scheme."""
        return name if self.is_store else quote(name)

    def upload(self, local: Path, path: str) -> None:
        """Store a local file; it is visible when all of it has arrived."""
        url = self.locate(path)
        size = local.stat().st_size
        if not self.is_store:
            raise DataError(f"{url}: http(s) can be read, not written; write to s3:// or gs://")

        def action() -> None:
            filesystem = _filesystem(url)
            # pyright takes the options for the declared parameters, which vary with the scheme.
            filesystem.put_file(str(local), url, **_upload_options(url))  # pyright: ignore[reportArgumentType]
            if (stored := filesystem.info(url)["size"]) != size:
                raise OSError(errno.EIO, f"{stored} bytes arrived of {size}")

        try:
            try_often(action, url, self.retry)
        except FileNotFoundError as error:
            raise StorageError(f"{url}: cannot be stored: there is no such bucket") from error

    def remove(self, paths: list[str]) -> None:
        """Remove files."""
        urls = [self.locate(path) for path in paths]
        if urls:
            try_often(lambda: _filesystem(self.url).rm(urls), self.url, self.retry)


def _filesystem(url: str) -> fsspec.AbstractFileSystem:
    """Return fsspec's object for the scheme, which it keeps for each process."""
    scheme = url.partition("://")[0]
    options: dict[str, object] = {"use_listings_cache": False}
    if scheme == "s3":
        # Retries are counted here; botocore's on top of ours would multiply them.
        timeouts = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S}
        options["config_kwargs"] = {"retries": {"total_max_attempts": 1}, **timeouts}
    try:
        if scheme in ("http", "https"):
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)
            options["client_kwargs"] = {"timeout": timeout}
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise DataError(f"{url}: {error}; pip install 'millstream[remote]'") from error


def _upload_options(url: str) -> dict[str, int]:
    options = {"chunksize": _UPLOAD_PART_BYTES}
    if url.startswith("s3"):
        options["max_concurrency"] = _UPLOAD_PARTS_AT_ONCE
    return options


def _bytes(data: str | bytes) -> bytes:
    assert isinstance(data, bytes)
    return data


def _stamp(info: Mapping[str, object]) -> int:
    """Return a number that changes when the file does, 0 if the service has none."""
    timestamp = getattr(info.get("LastModified") or info.get("mtime"), "timestamp", None)
    return int(timestamp() * 1e9) if timestamp else 0
