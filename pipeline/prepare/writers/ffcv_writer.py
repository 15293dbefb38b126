"""A split as one FFCV file: a conversion like that to shards, with a single shard, SPLIT.beton.

Lock, policy for unusable images, index, manifest and report are those of shards. What differs: the
file is begun anew after an interruption, since FFCV's writer cannot go on with one.
"""

import hashlib
import logging
import warnings
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from pipeline.errors import DataError, Problem, UnusableImageError
from pipeline.formats.ffcv_tables import FfcvTables, read_tables
from pipeline.prepare.writers.ffcv_config import MAX_PAGE_BYTES, MIN_PAGE_BYTES, FfcvConfig
from pipeline.prepare.writers.ffcv_library import PageOverflowError, StoredImage, encode, write_file
from pipeline.prepare.writers.job import Entry, Progress, ShardJob, entries, load
from pipeline.prepare.writers.shard_record import RECORD_SCHEMA, ShardRecord, write_record
from pipeline.storage.files import finish_part, part_path

_log = logging.getLogger(__name__)

_CHUNK = 8
_HASH_BLOCK = 64 << 20
_LEFT_OUT = StoredImage(0, 0, 0, np.empty(0, np.uint8))


def write_ffcv(
    job: ShardJob, progress: Progress, *, config: FfcvConfig, threads: int
) -> tuple[Problem, ...]:
    """Write the file of `job` and return the images that cannot be used.

    If there are any, and they are not to be skipped, nothing is written.

    Raises:
        DataError: if what was written is not what is read back.
    """
    part = part_path(job.folder / job.name)
    try:
        records = _write_until_it_fits(job, part, progress, config=config, threads=threads)
        problems = tuple(records.problems.values())
        if problems and job.config.on_error == "fail":
            part.unlink()
            return problems
        if len(problems) == len(job.labels):
            raise DataError(f"{job.folder}: no image is left that can be used")
        record = _checked_piece(job, part, records)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    write_record(job.folder, record)
    finish_part(part)
    return problems


class _Records:
    """What became of each image of a job, by its position there."""

    def __init__(self, count: int) -> None:
        self.problems: dict[int, Problem] = {}
        self.crc32 = np.zeros(count, np.uint32)
        self.notes = np.zeros(count, np.int32)

    def kept(self) -> NDArray[np.int64]:
        """Positions of the images that are stored."""
        is_kept = np.ones(len(self.notes), np.bool_)
        is_kept[list(self.problems)] = False
        return np.flatnonzero(is_kept)


def _write_until_it_fits(
    job: ShardJob, part: Path, progress: Progress, *, config: FfcvConfig, threads: int
) -> _Records:
    """Write the file; again if a page was too small, or if images have to be left out.

    The header says how many samples there are, so one that turns out unusable cannot be left out
    of a file that was begun.
    """
    largest = int(job.sizes.max()) if config.mode == "copy" else 0
    page_bytes = _page_for(min(largest, MAX_PAGE_BYTES))
    records, known = _Records(len(job.labels)), 0
    while True:
        images = _images(job, records, progress, partial(encode_entry, job, config), threads)
        count = len(job.labels) - known
        try:
            # Decoding silences warnings, which threads that overlap do not undo; this does.
            with warnings.catch_warnings():
                write_file(part, images, count=count, page_bytes=page_bytes)
        except PageOverflowError as error:
            page_bytes = _page_for(error.size_bytes)
            _log.warning("%s; beginning anew with pages of %d bytes", error, page_bytes)
        else:
            found = len(records.problems)
            if found == known or job.config.on_error == "fail" or found == len(job.labels):
                return records
            known = found
            _log.warning("beginning anew without the %d images that cannot be used", known)
        finally:
            images.close()
        progress = _no_progress


def _no_progress(images: int, size_bytes: int) -> None:
    """Stands in for the display, which has counted the images already."""


def _page_for(size_bytes: int) -> int:
    return max(MIN_PAGE_BYTES, 1 << (size_bytes - 1).bit_length())


class EncodedEntry(NamedTuple):
    """An image as the file has it, and what the index says of it."""

    image: StoredImage
    crc32: int
    notes: int


def encode_entry(job: ShardJob, config: FfcvConfig, entry: Entry) -> EncodedEntry | Problem:
    """Return the image of `entry` as it is to be stored, or why there is none."""
    try:
        data, header, notes = load(job, entry)
        image = encode(data, header, entry.key, config)
        if len(image.data) > MAX_PAGE_BYTES:
            raise UnusableImageError("too large for FFCV", f"{len(image.data)} bytes")
    except UnusableImageError as error:
        return Problem(error.kind, entry.location, str(error))
    return EncodedEntry(image, zlib_ng.crc32(image.data.data), int(notes))


def _images(
    job: ShardJob,
    records: _Records,
    progress: Progress,
    encode_one: "partial[EncodedEntry | Problem]",
    threads: int,
) -> Generator[tuple[StoredImage, int]]:
    """Yield the images in order, encoded by threads, and record them; known problems are left out.

    A problem that is new yields an empty image, so that all others are looked at too.
    """
    positions = (p for p in enumerate(entries(job)) if p[0] not in records.problems)
    with ThreadPoolExecutor(threads, thread_name_prefix="encode") as pool:
        for (position, entry), encoded in _in_order(pool, positions, encode_one, ahead=2 * threads):
            if isinstance(encoded, Problem):
                records.problems[position] = encoded
                yield _LEFT_OUT, entry.label
            else:
                records.crc32[position], records.notes[position] = encoded.crc32, encoded.notes
                yield encoded.image, entry.label
            progress(1, entry.size)


def _in_order(
    pool: ThreadPoolExecutor,
    items: Iterator[tuple[int, Entry]],
    encode_one: "partial[EncodedEntry | Problem]",
    *,
    ahead: int,
) -> Iterator[tuple[tuple[int, Entry], EncodedEntry | Problem]]:
    """Yield each item with what it becomes; `ahead` chunks of them are in work or waiting."""
    waiting: deque[tuple[list[tuple[int, Entry]], Future[list[EncodedEntry | Problem]]]] = deque()

    def encode_chunk(chunk: list[tuple[int, Entry]]) -> list[EncodedEntry | Problem]:
        return [encode_one(entry) for _, entry in chunk]

    try:
        while True:
            while len(waiting) < ahead and (chunk := list(islice(items, _CHUNK))):
                waiting.append((chunk, pool.submit(encode_chunk, chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            yield from zip(chunk, future.result(), strict=True)
    finally:
        for _, future in waiting:
            future.cancel()


def _checked_piece(job: ShardJob, part: Path, records: _Records) -> ShardRecord:
    """Read the file back and compare it with what was put into it."""
    tables, kept = read_tables(part), records.kept()
    crc32 = records.crc32[kept]
    if not np.array_equal(tables.labels, job.labels[kept]):
        raise DataError(f"{part}: its labels are not those that were written; is the disk full?")
    content = np.memmap(part, np.uint8, mode="r").view(np.ndarray)
    for i, offset in enumerate(tables.offsets.tolist()):
        if zlib_ng.crc32(content[offset : offset + int(tables.sizes[i])].data) != crc32[i]:
            where = job.keys[int(kept[i])].as_py()
            raise DataError(f"{part}: {where} is not as it was written; is the disk in order?")
    sha256 = hashlib.sha256()
    for start in range(0, len(content) if job.config.checksums else 0, _HASH_BLOCK):
        sha256.update(content[start : start + _HASH_BLOCK].data)
    return ShardRecord(
        name=job.name,
        size_bytes=len(content),
        sha256=sha256.hexdigest() if job.config.checksums else "",
        problems=tuple(records.problems.values()),
        table=_table(job, tables, records, kept),
    )


def _table(
    job: ShardJob, tables: FfcvTables, records: _Records, kept: NDArray[np.int64]
) -> pa.Table:
    columns = {
        "shard": np.zeros(len(kept)),
        "offset": tables.offsets,
        "length": tables.sizes,
        "label": tables.labels,
        "width": tables.widths,
        "height": tables.heights,
        "crc32": records.crc32[kept] * np.uint32(job.config.checksums),
        "notes": records.notes[kept],
    }
    arrays = {
        name: pa.array(column).cast(RECORD_SCHEMA.field(name).type)
        for name, column in columns.items()
    }
    arrays["key"] = job.keys.take(pa.array(kept))
    return pa.table({name: arrays[name] for name in RECORD_SCHEMA.names}, schema=RECORD_SCHEMA)
