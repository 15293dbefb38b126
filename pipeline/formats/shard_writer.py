"""One shard: its tar, DALI's index of it, and its piece of our index.

Members are KEY.jpg (or the image's own extension), KEY.cls, the label in digits as webdataset and
timm read it, and KEY.i4, the label as four little-endian bytes, the only form that DALI's reader
can use. The tar gets its name last: a shard that has its name is complete.
"""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.formats.files import finish_part, part_path, write_atomically
from pipeline.formats.image_header import read_header
from pipeline.formats.index import SCHEMA
from pipeline.formats.keys import member_extension
from pipeline.formats.pieces import Piece, write_piece
from pipeline.formats.scan import ByteReader, Problem
from pipeline.formats.tar_writer import TarWriter

DALI_INDEX_VERSION = "v1.2"
_REPORT_EVERY = 64

Progress = Callable[[int, int], None]
"""Called with images and bytes done since the last call."""


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
    reader: ByteReader
    with_checksums: bool


@dataclass
class _Rows:
    """Columns of the index, and lines of DALI's, as they grow."""

    offset: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    width: list[int] = field(default_factory=list)
    height: list[int] = field(default_factory=list)
    crc32: list[int] = field(default_factory=list)
    key: list[str] = field(default_factory=list)
    dali: list[str] = field(default_factory=list)

    def table(self, shard: int) -> pa.Table:
        """Return the piece of the index."""
        columns = {name: getattr(self, name) for name in SCHEMA.names if name != "shard"}
        return pa.table({"shard": [shard] * len(self.key), **columns}, schema=SCHEMA)


def write_shard(job: ShardJob, progress: Progress) -> Piece:
    """Read the entries of `job` and write its shard, unless there is a problem with one of them."""
    part = part_path(job.folder / job.name)
    tar = TarWriter(part, with_sha256=job.with_checksums)
    try:
        rows, problems = _append_all(job, tar, progress)
        tar.finish()
    finally:
        tar.close()
    sha256 = tar.sha256.hexdigest() if tar.sha256 else ""
    piece = Piece(
        name=job.name,
        size_bytes=tar.position,
        sha256=sha256,
        problems=tuple(problems),
        table=rows.table(job.number),
    )
    if problems:
        part.unlink()
        return piece
    idx = "\n".join([f"{DALI_INDEX_VERSION} {len(rows.dali)}", *rows.dali, ""])
    write_atomically((job.folder / job.name).with_suffix(".idx"), idx.encode())
    write_piece(job.folder, piece)
    finish_part(part)
    return piece


def _append_all(job: ShardJob, tar: TarWriter, progress: Progress) -> tuple[_Rows, list[Problem]]:
    rows, problems = _Rows(), []
    images = total = 0
    entries = zip(
        job.keys.to_pylist(),
        map(os.fsdecode, job.locations.to_pylist()),
        job.labels.tolist(),
        job.sizes.tolist(),
        strict=True,
    )
    for key, location, label, size in entries:
        try:
            data = job.reader.read(location)
            if len(data) != size:
                raise ValueError(f"changed meanwhile: {len(data)} bytes instead of {size}")
            _append(rows, tar, _Member(key, member_extension(location), label, data), job)
        except (OSError, ValueError) as error:
            problems.append(Problem("unreadable image", location, str(error)))
        images, total = images + 1, total + size
        if images == _REPORT_EVERY:
            progress(images, total)
            images = total = 0
    progress(images, total)
    return rows, problems


class _Member(NamedTuple):
    key: str
    extension: str
    label: int
    data: bytes


def _append(rows: _Rows, tar: TarWriter, member: _Member, job: ShardJob) -> None:
    """Append the three members of a sample and its row."""
    key, extension, label, data = member
    header = read_header(data)
    name = key.encode()
    cls, i4 = b"%d" % label, struct.pack("<i", label)
    offset = tar.append(b"%s.%s" % (name, extension.encode()), data)
    cls_offset = tar.append(name + b".cls", cls)
    i4_offset = tar.append(name + b".i4", i4)
    rows.offset.append(offset)
    rows.length.append(len(data))
    rows.label.append(label)
    rows.width.append(header.width)
    rows.height.append(header.height)
    rows.crc32.append(zlib.crc32(data) if job.with_checksums else 0)
    rows.key.append(key)
    rows.dali.append(
        f"{extension} {offset} {len(data)} {key}.{extension}"
        f" cls {cls_offset} {len(cls)} {key}.cls i4 {i4_offset} {len(i4)} {key}.i4"
    )
