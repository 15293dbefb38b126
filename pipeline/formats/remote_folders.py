"""The ImageNet layout at a URL: a folder for each class, its images inside, at any depth.

An object store is listed with names and sizes; over http(s) the server has to list folders (nginx:
autoindex), and each size takes a request.
"""

import os.path
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from pipeline.errors import DataError
from pipeline.formats.layouts import SPLITS, Layout
from pipeline.formats.listing import Listing
from pipeline.formats.remote_converted import scan_remote_shards
from pipeline.formats.scan import REQUESTS_AT_ONCE, ByteReader, Scan, reading_ahead
from pipeline.formats.shard_folder import MANIFEST_NAME
from pipeline.images.names import is_image_name, sample_key
from pipeline.storage.remote import RemoteFile, RemoteFolder


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

    def ahead(self, locations: Sequence[str]) -> AbstractContextManager[ByteReader]:
        """Return a reader that has several requests under way."""
        return reading_ahead(self, locations)


def find_remote_layout(remote: RemoteFolder) -> Layout:
    """Find the splits at a URL.

    Raises:
        DataError: if there are none.
    """
    converted = {
        s: partial(scan_remote_shards, remote / s) for s in SPLITS if _has_shards(remote / s)
    }
    if converted:
        return Layout(remote.url, converted)
    folders = remote.children()[0]
    there = [split for split in SPLITS if split in folders]
    if not there:
        raise DataError(
            f"{remote.url}: holds no train/ or val/ with shards or with a folder for each class (or"
            " its server does not list folders); other layouts are read from local folders only"
        )
    return Layout(
        remote.url, {s: partial(scan_remote_folders, remote / s, remote / there[0]) for s in there}
    )


def _has_shards(remote: RemoteFolder) -> bool:
    try:
        return remote.size(MANIFEST_NAME) > 0
    except FileNotFoundError:
        return False


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
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
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
