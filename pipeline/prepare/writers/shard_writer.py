"""One shard: its tar, DALI's index of it, and its rows of our index.

The tar gets its name last: a shard that has its name is complete.
"""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa
from zlib_ng import zlib_ng

from pipeline.errors import Problem, UnusableImageError
from pipeline.formats.dali_index import DALI_INDEX_VERSION, dali_line
from pipeline.formats.scan import AheadReader
from pipeline.images.names import member_extension
from pipeline.images.recode import Recoded
from pipeline.images.usable import usual_extension
from pipeline.prepare.writers.job import Entry, Progress, ShardJob, entries, load
from pipeline.prepare.writers.shard_record import (
    RECORD_SCHEMA,
    ShardRecord,
    store_shard,
    write_record,
)
from pipeline.storage.files import finish_part, part_path, write_atomically
from pipeline.storage.tar_writer import BLOCK, FixedMembers, TarWriter, padded, tar_header

_REPORT_EVERY = 32
_LABELS_BYTES = 4 * BLOCK  # two members of a header and a block of content


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
    record = ShardRecord(
        name=job.name,
        size_bytes=tar.position,
        sha256=tar.sha256.hexdigest() if tar.sha256 else "",
        problems=problems,
        table=samples.table(job.number),
    )
    write_record(job.folder, record)
    finish_part(part)
    if job.remote is not None:
        store_shard(job.remote, job.folder, job.name)
    return problems


def _append_all(job: ShardJob, samples: "SampleWriter", progress: Progress) -> tuple[Problem, ...]:
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
    if job.config.images.recode.makes_jpegs:
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


class _Row(NamedTuple):
    """One sample: the index's columns, and what DALI's index needs besides."""

    offset: int
    length: int
    label: int
    width: int
    height: int
    crc32: int
    key: str
    notes: int
    extension: str
    json_length: int


class SampleWriter:
    """Adds samples to a tar and remembers where they are."""

    def __init__(self, tar: TarWriter, *, with_crc32: bool) -> None:
        self._tar = tar
        self._with_crc32 = with_crc32
        self._rows: list[_Row] = []

    def add(
        self, key: str, label: int, image: Recoded, *, extension: str, json: bytes = b""
    ) -> None:
        """Append the members of one sample; `json` only if there is any."""
        data, header, notes = image
        name = key.encode()
        more = label_members(label).blocks(name)
        if json:
            more += tar_header(name + b".json", len(json)) + padded(json)
        offset = self._tar.append(b"%b.%b" % (name, extension.encode()), data, more)
        crc32 = zlib_ng.crc32(data) if self._with_crc32 else 0
        self._rows.append(
            _Row(
                offset,
                len(data),
                label,
                header.width,
                header.height,
                crc32,
                key,
                int(notes),
                extension,
                len(json),
            )
        )

    def table(self, shard: int) -> pa.Table:
        """Return the shard's rows of the index, `RECORD_SCHEMA`."""
        columns = {
            name: [shard] * len(self._rows)
            if name == "shard"
            else [getattr(row, name) for row in self._rows]
            for name in RECORD_SCHEMA.names
        }
        return pa.table(columns, schema=RECORD_SCHEMA)

    def dali_index(self) -> bytes:
        """Return the text that `wds2idx` would make of the tar."""
        lines = [f"{DALI_INDEX_VERSION} {len(self._rows)}", *map(_dali_line, self._rows), ""]
        return "\n".join(lines).encode()


def _dali_line(row: _Row) -> str:
    line = dali_line(row.key, row.extension, row.offset, row.length, row.label)
    if row.json_length:
        json = row.offset + row.length + -row.length % BLOCK + _LABELS_BYTES + BLOCK
        line += f" json {json} {row.json_length} {row.key}.json"
    return line


@lru_cache(maxsize=4096)
def label_members(label: int) -> FixedMembers:
    """Return the members KEY.cls and KEY.i4 of a sample, which follow its image."""
    return FixedMembers(((b".cls", b"%d" % label), (b".i4", struct.pack("<i", label))))
