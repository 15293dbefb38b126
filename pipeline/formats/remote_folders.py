"""The ImageNet layout at a URL: a folder for each class, its images inside, at any depth.

An object store is listed with names and sizes; over http(s) the server has to list folders (nginx:
autoindex), and each size takes a request.
"""

import os.path
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from urllib.parse import unquote

from pipeline.formats.keys import is_image_name, sample_key
from pipeline.formats.layouts import SPLITS, Layout
from pipeline.formats.listing import Listing
from pipeline.formats.remote import RemoteFile, RemoteFolder
from pipeline.formats.scan import Scan
from pipeline.formats.source import DataError

_REQUESTS_AT_ONCE = 16


@dataclass(frozen=True)
class RemoteReader:
    """Reads files below a remote folder; a location is a path relative to it."""

    remote: RemoteFolder

    def read(self, location: str) -> bytes:
        """Return the content of the file.

        Raises:
            OSError: if it is not there, or may not be read.
            StorageError: if the service fails: that is no fault of the file.
        """
        return self.remote.read(location)

    def describe(self, location: str) -> str:
        """Return the URL."""
        return self.remote.locate(location)

    @contextmanager
    def ahead(self, locations: Sequence[str]) -> Iterator["_ReaderAhead"]:
        """Return a reader that has several requests under way."""
        reader = _ReaderAhead(self, locations)
        try:
            yield reader
        finally:
            reader.close()


class _ReaderAhead:
    """Reads locations in the order in which they were announced."""

    def __init__(self, reader: RemoteReader, locations: Sequence[str]) -> None:
        self._reader = reader
        self._rest = iter(locations)
        self._pool = ThreadPoolExecutor(_REQUESTS_AT_ONCE)
        self._pending: deque[tuple[str, Future[bytes]]] = deque()
        self._submit(2 * _REQUESTS_AT_ONCE)

    def read(self, location: str) -> bytes:
        """Return the content of the next file. Raises as `RemoteReader.read` does."""
        expected, future = self._pending.popleft()
        assert location == expected, "locations are read in the order that was announced"
        self._submit(1)
        return future.result()

    def describe(self, location: str) -> str:
        """Return the URL."""
        return self._reader.describe(location)

    def close(self) -> None:
        """End the requests."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, count: int) -> None:
        for location in islice(self._rest, count):
            self._pending.append((location, self._pool.submit(self._reader.read, location)))


def find_remote_layout(remote: RemoteFolder) -> Layout:
    """Find the splits at a URL.

    Raises:
        DataError: if there are none.
    """
    there = [split for split in SPLITS if split in remote.children()[0]]
    if not there:
        raise DataError(
            f"{remote.url}: holds no train/ or val/ with a folder for each class (or its server"
            " does not list folders); other layouts are read from local folders only"
        )
    return Layout(
        remote.url, {s: partial(scan_remote_folders, remote / s, remote / there[0]) for s in there}
    )


def scan_remote_folders(remote: RemoteFolder, training: RemoteFolder) -> Scan:
    """List the images of each class below `remote`; the classes are the folders in `training`."""
    classes = _class_names(training)
    labels = {name: label for label, name in enumerate(classes)}
    listing = Listing()
    folders, loose = remote.children()
    for name in filter(is_image_name, loose):
        listing.report("loose image", name, "it lies in no class folder")
    for name in sorted(set(folders) - labels.keys()):
        listing.report("unknown class", name, "no class of the training split has this name")
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        known = [name for name in folders if name in labels]
        # Class by class: a list of all objects, as libraries keep it, would take gigabytes.
        found = pool.map(lambda name: (remote / remote.quoted(name)).files(), known)
        for name, files in zip(known, found, strict=True):
            for file in files:
                _add(listing, remote, f"{remote.quoted(name)}/{file.path}", file, labels[name])
    return listing.scan(classes, RemoteReader(remote))


def _add(
    listing: Listing, remote: RemoteFolder, location: str, file: RemoteFile, label: int
) -> None:
    path = location if remote.is_store else unquote(location)
    name = path.rpartition("/")[2]
    if not is_image_name(name) or "/." in path:
        listing.ignored[os.path.splitext(name)[1].lower() or "no extension"] += 1  # noqa: PTH122
    else:
        listing.add(sample_key(path), location, label=label, size=file.size, stamp=file.stamp)


def _class_names(training: RemoteFolder) -> tuple[str, ...]:
    names = tuple(sorted(name for name in training.children()[0] if not name.startswith(".")))
    if not names:
        raise DataError(f"{training.url}: no class folders; expected one for each class")
    return names
