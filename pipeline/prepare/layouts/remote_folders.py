"""The ImageNet layout at a URL: a folder for each class, its images inside, at any depth.

An object store is listed with names and sizes; over http(s) the server has to list folders (nginx:
autoindex), and each size takes a request.
"""

import os.path
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from urllib.parse import unquote

from pipeline.errors import DataError
from pipeline.formats.scan import REQUESTS_AT_ONCE, ByteReader, Scan, reading_ahead
from pipeline.images.names import is_image_name, sample_key
from pipeline.prepare.layouts.scan_builder import ScanBuilder
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


def scan_remote_folders(remote: RemoteFolder, training: RemoteFolder) -> Scan:
    """List the images of each class below `remote`; the classes are the folders in `training`."""
    classes = _class_names(training)
    labels = {name: label for label, name in enumerate(classes)}
    builder = ScanBuilder()
    folders, loose = remote.children()
    for name in filter(is_image_name, loose):
        builder.report("loose image", name, "it lies in no class folder")
    for name in sorted(set(folders) - labels.keys()):
        builder.report("unknown class", name, "no class of the training split has this name")
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        known = [name for name in folders if name in labels]
        # Class by class: a list of all objects, as libraries keep it, would take gigabytes.
        found = pool.map(lambda name: (remote / remote.quoted(name)).files(), known)
        for name, files in zip(known, found, strict=True):
            for file in files:
                _add(builder, remote, f"{remote.quoted(name)}/{file.path}", file, labels[name])
    return builder.scan(classes, RemoteReader(remote))


def _add(
    builder: ScanBuilder, remote: RemoteFolder, location: str, file: RemoteFile, label: int
) -> None:
    path = location if remote.is_store else unquote(location)
    name = path.rpartition("/")[2]
    if not is_image_name(name) or "/." in path:
        builder.ignored[os.path.splitext(name)[1].lower() or "no extension"] += 1  # noqa: PTH122
    else:
        builder.add(sample_key(path), location, label=label, size=file.size, stamp=file.stamp)


def _class_names(training: RemoteFolder) -> tuple[str, ...]:
    names = tuple(sorted(name for name in training.children()[0] if not name.startswith(".")))
    if not names:
        raise DataError(f"{training.url}: no class folders; expected one for each class")
    return names
