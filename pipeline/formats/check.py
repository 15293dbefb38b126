"""Shards checked against their manifest and index: whole files first, single images where needed.

The SHA-256 of a tar says whether it is what was written; only if it is not, or if a deep check is
wanted, is every sample looked at, to name those that are damaged.
"""

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from zlib_ng import zlib_ng

from pipeline.formats.beton_check import check_beton_samples
from pipeline.formats.files import file_sha256
from pipeline.formats.image_check import UnusableImageError, check_usable
from pipeline.formats.image_header import read_header
from pipeline.formats.index import INDEX_NAME, Index, read_index
from pipeline.formats.manifest import FileFacts, Manifest
from pipeline.formats.sample_writer import label_members
from pipeline.formats.scan import Problem
from pipeline.formats.shard_writer import Progress
from pipeline.formats.source import DataError
from pipeline.formats.tar_writer import BLOCK

_PIECE = 8 << 20
_LABEL_BYTES = 2 * BLOCK
_MEMBER_NAME = 100


@dataclass(frozen=True, kw_only=True)
class CheckJob:
    """One shard to be checked."""

    folder: Path
    number: int
    facts: FileFacts
    deep: bool
    """Decode every image, and read every label member."""


def check_index(folder: Path, manifest: Manifest) -> list[Problem]:
    """Compare the index with the manifest."""
    path = folder / INDEX_NAME
    if not path.exists():
        return [Problem("missing index", INDEX_NAME)]
    if file_sha256(path) != manifest["index"]["sha256"]:
        return [Problem("damaged index", INDEX_NAME, "its SHA-256 is not the manifest's")]
    return []


def check_jobs(folder: Path, manifest: Manifest, *, deep: bool) -> list[CheckJob]:
    """Return what has to be checked, shard by shard."""
    return [
        CheckJob(folder=folder, number=number, facts=facts, deep=deep)
        for number, facts in enumerate(manifest["shards"])
    ]


def check_shard(job: CheckJob, progress: Progress) -> tuple[int, list[Problem]]:
    """Check one shard; returns its number and what is wrong with it."""
    facts, path = job.facts, job.folder / job.facts["name"]
    if not path.exists():
        progress(facts["samples"], facts["bytes"])
        return job.number, [Problem("missing shard", facts["name"])]
    problems = []
    if (size := path.stat().st_size) != facts["bytes"]:
        detail = f"{size} bytes instead of {facts['bytes']}"
        problems.append(Problem("shard of another size", facts["name"], detail))
    content = _mapped(path)
    has_right_size = not problems
    is_sound = has_right_size and _sha256(content, progress) == facts["sha256"]
    is_beton = path.suffix == ".beton"
    if not is_sound or job.deep:
        if is_beton:
            problems += check_beton_samples(path, deep=job.deep)
        else:
            problems += _check_samples(job, content)
    if not (is_sound or problems) and facts["sha256"]:
        detail = "its SHA-256 is not the manifest's; the images are whole, the rest is not"
        problems.append(Problem("damaged shard", facts["name"], detail))
    problems += [] if is_beton else _check_dali_index(job)
    progress(facts["samples"], 0)
    return job.number, problems


def _mapped(path: Path) -> memoryview:
    if not path.stat().st_size:
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _sha256(content: memoryview, progress: Progress) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(content), _PIECE):
        piece = content[start : start + _PIECE]
        digest.update(piece)
        progress(0, len(piece))
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _index(folder: Path) -> Index | None:
    """Return the index, None if it cannot be used, which is reported elsewhere."""
    try:
        return read_index(folder)
    except DataError:
        return None


def _rows(job: CheckJob) -> Iterator[dict[str, int | str]]:
    """Yield the index's rows of the shard, in storage order."""
    index = _index(job.folder)
    if index is None:
        return
    rows = np.flatnonzero(index.column("shard") == job.number)
    rows = rows[np.argsort(index.column("offset")[rows])]
    yield from index.table.take(rows).to_pylist()


def _check_samples(job: CheckJob, content: memoryview) -> list[Problem]:
    """Look at each sample; the place of a problem is SHARD:KEY."""
    problems = []
    for row in _rows(job):
        where = f"{job.facts['name']}:{row['key']}"
        try:
            _check_sample(job, content, row)
        except UnusableImageError as error:
            problems.append(Problem(error.kind, where, str(error)))
        except ValueError as error:
            problems.append(Problem("damaged sample", where, str(error)))
    return problems


def _check_sample(job: CheckJob, content: memoryview, row: dict[str, int | str]) -> None:
    offset, length, label = int(row["offset"]), int(row["length"]), int(row["label"])
    key = str(row["key"]).encode()
    if offset + length > len(content):
        raise ValueError("lies behind the end of the shard")
    name = bytes(content[offset - BLOCK :][:_MEMBER_NAME]).rstrip(b"\0")
    if name.rpartition(b".")[0] != key:
        raise ValueError(f"the tar has {name.decode(errors='replace')!r} there")
    data = bytes(content[offset : offset + length])
    index = _index(job.folder)
    if index is not None and index.has_checksums and zlib_ng.crc32(data) != row["crc32"]:
        raise ValueError("the image's checksum does not hold")
    after = offset + length + -length % BLOCK
    labels = label_members(label).blocks(key)
    found = content[after : after + len(labels)]
    if found != labels:
        extension = "cls" if found[:_LABEL_BYTES] != labels[:_LABEL_BYTES] else "i4"
        raise ValueError(f"the label member .{extension} is damaged")
    if job.deep:
        header = read_header(data)
        if (header.width, header.height) != (row["width"], row["height"]):
            raise ValueError(f"{header.width} x {header.height} pixels, which the index denies")
        check_usable(header, data, must_load=True, decode=True)


def _check_dali_index(job: CheckJob) -> list[Problem]:
    """Compare the places of the images in DALI's index with ours."""
    path = (job.folder / job.facts["name"]).with_suffix(".idx")
    rows = list(_rows(job))
    if not rows:
        return []
    try:
        lines = path.read_text().splitlines()[1:]
        found = [(int(o), int(n), k.rpartition(".")[0]) for _, o, n, k, *_ in map(str.split, lines)]
    except (OSError, ValueError):
        found = []
    if found != [(row["offset"], row["length"], row["key"]) for row in rows]:
        return [Problem("damaged DALI index", path.name, "it does not fit the shard")]
    return []
