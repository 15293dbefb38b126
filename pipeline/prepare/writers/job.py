"""One output to be written: what a worker anywhere needs, and an image as it is to be stored."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import UnusableImageError
from pipeline.formats.scan import ByteReader
from pipeline.images.names import member_extension
from pipeline.images.recode import ImageConfig, Recoded, prepare_image
from pipeline.storage.files import write_atomically

if TYPE_CHECKING:
    from pipeline.storage.remote import RemoteFolder

QUARANTINE_FOLDER = "quarantine"
_BLOCK = 4096
_FAULTS_OF_A_FILE = frozenset(
    (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.EISDIR, errno.ENOTDIR)
)

Progress = Callable[[int, int], None]
"""Called with images and bytes done since the last call."""

OnError = Literal["fail", "skip", "quarantine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteConfig:
    """How shards are written, and what happens to images that cannot be used."""

    images: ImageConfig = field(default_factory=ImageConfig)
    on_error: OnError = "fail"
    """Leave the shard unwritten, or leave the image out, or do that and put a copy aside."""
    checksums: bool = True
    """CRC-32 of images and SHA-256 of shards; without them damage cannot be found."""
    json_member: bool = False
    """Add KEY.json with the class and the size."""


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """All that a worker, anywhere, needs to write one shard."""

    folder: Path
    number: int
    name: str
    keys: pa.StringArray
    locations: pa.BinaryArray
    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]
    classes: tuple[str, ...]
    reader: ByteReader
    config: WriteConfig
    remote: "RemoteFolder | None" = None
    """Where the shard goes when it is complete in `folder`; None: it stays."""
    has_exact_sizes: bool = True
    """Whether `sizes` are more than estimates."""


class Entry(NamedTuple):
    """One image to be written."""

    key: str
    location: str
    label: int
    size: int


def entries(job: ShardJob) -> Iterator[Entry]:
    """Yield the images of `job` in storage order."""
    # In blocks: an FFCV file may have a million entries, and as objects they take much memory.
    for start in range(0, len(job.labels), _BLOCK):
        block = slice(start, start + _BLOCK)
        keys, locations = job.keys[block].to_pylist(), job.locations[block].to_pylist()
        places = map(os.fsdecode, locations)
        yield from map(Entry, keys, places, job.labels[block].tolist(), job.sizes[block].tolist())


def load(job: ShardJob, entry: Entry) -> Recoded:
    """Return the image of `entry` as it is to be stored.

    Raises:
        UnusableImageError: if it must not get into a data set; put aside if that is wanted.
    """
    data = b""
    try:
        data = job.reader.read(entry.location)
        if job.has_exact_sizes and len(data) != entry.size:
            change = f"{len(data)} bytes instead of {entry.size}"
            raise UnusableImageError("changed since the scan", change)
        return prepare_image(data, entry.location, job.config.images)
    except OSError as error:
        if error.errno not in _FAULTS_OF_A_FILE:
            raise  # no memory, too many open files: not the image's fault, so never skipped
        raise UnusableImageError("cannot be read", error.strerror or str(error)) from error
    except UnusableImageError:
        if job.config.on_error == "quarantine":
            aside = job.folder / QUARANTINE_FOLDER / entry.key
            aside = aside.with_name(f"{aside.name}.{member_extension(entry.location) or 'bin'}")
            aside.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(aside, data)
            if job.remote is not None:  # at once: after an interruption nobody looks at it again
                job.remote.upload(aside, str(aside.relative_to(job.folder)))
                aside.unlink()
        raise
