"""One shard: its tar, DALI's index of it, and its piece of our index.

Members are KEY.jpg (or the image's own extension), KEY.cls, the label in digits as webdataset and
timm read it, and KEY.i4, the label as four little-endian bytes, the only form that DALI's reader
can use. The tar gets its name last: a shard that has its name is complete.
"""

import errno
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.formats.files import finish_part, part_path, write_atomically
from pipeline.formats.image_check import Note, UnusableImageError
from pipeline.formats.intake import IntakeConfig, take_in
from pipeline.formats.keys import member_extension
from pipeline.formats.pieces import PIECE_SCHEMA, Piece, write_piece
from pipeline.formats.recode import Recoded
from pipeline.formats.scan import ByteReader, Problem
from pipeline.formats.tar_writer import TarWriter

QUARANTINE_FOLDER = "quarantine"
DALI_INDEX_VERSION = "v1.2"
_REPORT_EVERY = 32
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


class Entry(NamedTuple):
    """One image to be written."""

    key: str
    location: str
    label: int
    size: int


@dataclass
class _Rows:
    """Columns of the piece, and lines of DALI's index, as they grow."""

    offset: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    width: list[int] = field(default_factory=list)
    height: list[int] = field(default_factory=list)
    crc32: list[int] = field(default_factory=list)
    key: list[str] = field(default_factory=list)
    notes: list[int] = field(default_factory=list)
    dali: list[str] = field(default_factory=list)

    def table(self, shard: int) -> pa.Table:
        columns = {name: getattr(self, name) for name in PIECE_SCHEMA.names if name != "shard"}
        return pa.table({"shard": [shard] * len(self.key), **columns}, schema=PIECE_SCHEMA)


def write_shard(job: ShardJob, progress: Progress) -> tuple[Problem, ...]:
    """Write the shard of `job` and return the images that cannot be used.

    If there are any, and they are not to be skipped, nothing is written.
    """
    part = part_path(job.folder / job.name)
    tar = TarWriter(part, with_sha256=job.config.checksums)
    try:
        rows, problems = _append_all(job, tar, progress)
        tar.finish()
    except BaseException:
        part.unlink()
        raise
    finally:
        tar.close()
    if problems and job.config.on_error == "fail":
        part.unlink()
        return problems
    idx = "\n".join([f"{DALI_INDEX_VERSION} {len(rows.dali)}", *rows.dali, ""])
    write_atomically((job.folder / job.name).with_suffix(".idx"), idx.encode())
    piece = Piece(
        name=job.name,
        size_bytes=tar.position,
        sha256=tar.sha256.hexdigest() if tar.sha256 else "",
        problems=problems,
        table=rows.table(job.number),
    )
    write_piece(job.folder, piece)
    finish_part(part)
    return problems


def _append_all(
    job: ShardJob, tar: TarWriter, progress: Progress
) -> tuple[_Rows, tuple[Problem, ...]]:
    rows, problems = _Rows(), []
    images = total = 0
    for entry in entries(job):
        try:
            image = load(job, entry)
        except UnusableImageError as error:
            problems.append(Problem(error.kind, entry.location, str(error)))
        else:
            _append(rows, tar, entry, image, job)
        images, total = images + 1, total + entry.size
        if images == _REPORT_EVERY:
            progress(images, total)
            images = total = 0
    progress(images, total)
    return rows, tuple(problems)


def entries(job: ShardJob) -> Iterator[Entry]:
    """Yield the images of `job` in storage order."""
    locations = map(os.fsdecode, job.locations.to_pylist())
    return map(Entry, job.keys.to_pylist(), locations, job.labels.tolist(), job.sizes.tolist())


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
            aside = aside.with_name(f"{aside.name}.{member_extension(entry.location)}")
            aside.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(aside, data)
        raise


def _append(rows: _Rows, tar: TarWriter, entry: Entry, image: Recoded, job: ShardJob) -> None:
    """Append the members of a sample, and its row to the piece and to DALI's index."""
    data, header, notes = image
    is_converted = bool(notes & Note.CONVERTED) or job.config.intake.recode.quality > 0
    members = {
        "jpg" if is_converted else member_extension(entry.location): data,
        "cls": b"%d" % entry.label,
        "i4": struct.pack("<i", entry.label),
    }
    if job.config.json_member:
        about = {"key": entry.key, "class": job.classes[entry.label], "label": entry.label}
        size = {"width": header.width, "height": header.height}
        members["json"] = json.dumps(about | size).encode()
    name = entry.key.encode()
    offsets = [tar.append(b"%s.%s" % (name, ext.encode()), m) for ext, m in members.items()]
    rows.offset.append(offsets[0])
    rows.length.append(len(data))
    rows.label.append(entry.label)
    rows.width.append(header.width)
    rows.height.append(header.height)
    rows.crc32.append(zlib.crc32(data) if job.config.checksums else 0)
    rows.key.append(entry.key)
    rows.notes.append(int(notes))
    rows.dali.append(
        " ".join(
            f"{extension} {offset} {len(member)} {entry.key}.{extension}"
            for (extension, member), offset in zip(members.items(), offsets, strict=True)
        )
    )
