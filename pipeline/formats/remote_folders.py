"""The ImageNet layout at a URL: a folder for each class, its images inside, at any depth.

An object store is listed with names and sizes; over http(s) the server has to list folders (nginx:
autoindex), and each size takes a request.
"""

import os.path
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from pipeline.formats.keys import is_image_name, sample_key
from pipeline.formats.layouts import SPLITS, Layout
from pipeline.formats.listing import Listing
from pipeline.formats.remote import RemoteFolder
from pipeline.formats.scan import Scan
from pipeline.formats.source import DataError


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


def find_remote_layout(remote: RemoteFolder) -> Layout:
    """Find the splits at a URL.

    Raises:
        DataError: if there are none.
    """
    there = [split for split in SPLITS if split in remote.folders()]
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
    unknown = set()
    for file in remote.files():
        path = file.path if remote.is_store else unquote(file.path)
        folder, _, name = path.rpartition("/")
        label = labels.get(path.partition("/")[0])
        if not is_image_name(name) or f"/{path}".count("/."):
            listing.ignored[os.path.splitext(name)[1].lower() or "no extension"] += 1  # noqa: PTH122
        elif label is not None:
            listing.add(sample_key(path), file.path, label=label, size=file.size, stamp=file.stamp)
        elif folder:
            unknown.add(path.partition("/")[0])
        else:
            listing.report("loose image", path, "it lies in no class folder")
    for name in sorted(unknown):
        listing.report("unknown class", name, "no class of the training split has this name")
    return listing.scan(classes, RemoteReader(remote))


def _class_names(training: RemoteFolder) -> tuple[str, ...]:
    names = tuple(sorted(name for name in training.folders() if not name.startswith(".")))
    if not names:
        raise DataError(f"{training.url}: no class folders; expected one for each class")
    return names
