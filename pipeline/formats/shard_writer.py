"""One shard: its tar, DALI's index of it, and its piece of our index.

The tar gets its name last: a shard that has its name is complete.
"""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import Problem, UnusableImageError
from pipeline.formats.pieces import Piece, write_piece
from pipeline.formats.sample_writer import SampleWriter
from pipeline.formats.scan import AheadReader, ByteReader
from pipeline.images.names import member_extension
from pipeline.images.recode import IntakeConfig, Recoded, take_in
from pipeline.images.usable import usual_extension
from pipeline.storage.files import finish_part, part_path, write_atomically
from pipeline.storage.tar_writer import TarWriter

if TYPE_CHECKING:
    from pipeline.storage.remote import RemoteFolder

QUARANTINE_FOLDER = "quarantine"
_REPORT_EVERY = 32
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

    intake: IntakeConfig = field(default_factory=IntakeConfig)
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


class Entry(NamedTuple):
    """One image to be written."""

    key: str
    location: str
    label: int
    size: int


def write_shard(job: ShardJob, progress: Progress) -> tuple[Problem, ...]:
    """Write the shard of `job` and return the images that cannot be used.

    If there are any, and they are not to be skipped, nothing is written.
    """
    part = part_path(job.folder / job.name)
    tar = TarWriter(part, with_sha256=job.config.checksums)
    try:
        samples = SampleWriter(tar, with_crc32=job.config.checksums)
        with _reading_ahead(job) as ready:
            problems = _append_all(ready, samples, progress)
        tar.finish()
    except BaseException:
        part.unlink()
        raise
    finally:
        tar.close()
    if problems and job.config.on_error == "fail":
        part.unlink()
        return problems
    write_atomically((job.folder / job.name).with_suffix(".idx"), samples.dali_index())
    piece = Piece(
        name=job.name,
        size_bytes=tar.position,
        sha256=tar.sha256.hexdigest() if tar.sha256 else "",
        problems=problems,
        table=samples.table(job.number),
    )
    write_piece(job.folder, piece)
    finish_part(part)
    if job.remote is not None:
        from pipeline.formats.stored_shards import store_shard

        store_shard(job.remote, job.folder, job.name)
    return problems


def _append_all(job: ShardJob, samples: SampleWriter, progress: Progress) -> tuple[Problem, ...]:
    problems = []
    images = total = 0
    for entry in entries(job):
        try:
            image = load(job, entry)
        except UnusableImageError as error:
            problems.append(Problem(error.kind, entry.location, str(error)))
        else:
            samples.add(
                entry.key,
                entry.label,
                image,
                extension=_extension(job, entry, image),
                json=_json(job, entry, image) if job.config.json_member else b"",
            )
        images, total = images + 1, total + entry.size
        if images == _REPORT_EVERY:
            progress(images, total)
            images = total = 0
    progress(images, total)
    return tuple(problems)


@contextmanager
def _reading_ahead(job: ShardJob) -> Iterator[ShardJob]:
    """Give the job a reader that fetches ahead, if its own can."""
    if not isinstance(job.reader, AheadReader):
        yield job
        return
    with job.reader.ahead([entry.location for entry in entries(job)]) as reader:
        yield replace(job, reader=reader)


def _extension(job: ShardJob, entry: Entry, image: Recoded) -> str:
    if job.config.intake.recode.makes_jpegs:
        return "jpg"
    return member_extension(entry.location) or usual_extension(image.header.format)


def _json(job: ShardJob, entry: Entry, image: Recoded) -> bytes:
    about = {
        "key": entry.key,
        "class": job.classes[entry.label],
        "label": entry.label,
        "width": image.header.width,
        "height": image.header.height,
    }
    return json.dumps(about).encode()


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
        if len(data) != entry.size:
            change = f"{len(data)} bytes instead of {entry.size}"
            raise UnusableImageError("changed since the scan", change)
        return take_in(data, entry.location, job.config.intake)
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
