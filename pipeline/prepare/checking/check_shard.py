"""Shards checked against their manifest and index: whole files first, single images where needed.

The SHA-256 of a tar says whether it is what was written; only if it is not, or if a deep check is
wanted, is every sample looked at, to name those that are damaged. What a sample is to be, only the
index knows: without it nothing is said about samples.
"""

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from zlib_ng import zlib_ng

from pipeline.errors import DataError, Problem, UnusableImageError
from pipeline.formats.dali_index import DALI_INDEX_VERSION, is_dali_line
from pipeline.formats.ffcv_source import FfcvSource
from pipeline.formats.index import Index, read_index
from pipeline.formats.source import Sample
from pipeline.images.header import read_header
from pipeline.images.usable import check_usable
from pipeline.prepare.conversion.manifest import FileFacts, Manifest
from pipeline.prepare.writers.job import Progress
from pipeline.prepare.writers.shard_writer import label_members
from pipeline.storage.tar_reader import member_name
from pipeline.storage.tar_writer import BLOCK

_PIECE = 8 << 20
_LABEL_BYTES = 2 * BLOCK


@dataclass(frozen=True, kw_only=True)
class CheckJob:
    """One shard to be checked."""

    folder: Path
    number: int
    facts: FileFacts
    deep: bool
    """Decode every image, and read every label member."""
    index_sha256: str
    """Of the index, which the manifest proves right; empty if there is none such."""

    @property
    def has_index(self) -> bool:
        """Whether it is known what each sample is to be."""
        return self.index_sha256 != ""


@dataclass(frozen=True, kw_only=True)
class CheckedShard:
    """What was found out about a shard.

    Attributes:
        number: of the shard.
        problems: what is wrong with it.
        is_as_written: its bytes are those that were written, so its images, if any of them is
            damaged, were that when they came; unknown, so False, if no checksum was made.
        has_dali_index: DALI's index fits the shard, as far as can be said.
    """

    number: int
    problems: tuple[Problem, ...]
    is_as_written: bool
    has_dali_index: bool

    @property
    def to_be_mended(self) -> bool:
        """Whether the shard has to be made again from its source."""
        return bool(self.problems) and not (self.is_as_written and self.has_dali_index)


def check_jobs(folder: Path, manifest: Manifest, *, deep: bool, has_index: bool) -> list[CheckJob]:
    """Return what has to be checked, shard by shard."""
    proved = manifest["index"]["sha256"] if has_index else ""
    return [
        CheckJob(folder=folder, number=number, facts=facts, deep=deep, index_sha256=proved)
        for number, facts in enumerate(manifest["shards"])
    ]


def check_shard(job: CheckJob, progress: Progress) -> CheckedShard:
    """Check one shard; images and bytes are counted as they are read."""
    facts, path = job.facts, job.folder / job.facts["name"]
    problems: list[Problem] = []
    is_as_written, dali_problems = False, []
    if not path.exists():
        progress(0, facts["bytes"])
        problems.append(Problem("missing shard", facts["name"]))
    else:
        content = _mapped(path)
        is_as_written = _is_as_written(job, content, progress, problems)
        if job.has_index and (job.deep or not is_as_written):
            problems += _check_samples(job, path, content)
        if not (is_as_written or problems) and facts["sha256"]:
            rest = "the images and labels are whole, the rest is not"
            unknown = "which samples are damaged cannot be said without the index"
            detail = f"its SHA-256 is not the manifest's; {rest if job.has_index else unknown}"
            problems.append(Problem("damaged shard", facts["name"], detail))
        if job.has_index and path.suffix != ".beton":
            dali_problems = _check_dali_index(job)
    progress(facts["samples"], 0)
    return CheckedShard(
        number=job.number,
        problems=(*problems, *dali_problems),
        is_as_written=is_as_written,
        has_dali_index=not dali_problems,
    )


def _is_as_written(
    job: CheckJob, content: memoryview, progress: Progress, problems: list[Problem]
) -> bool:
    """Compare size and SHA-256; another size is a problem by itself."""
    facts = job.facts
    if len(content) != facts["bytes"]:
        detail = f"{len(content)} bytes instead of {facts['bytes']}"
        problems.append(Problem("shard of another size", facts["name"], detail))
        progress(0, facts["bytes"])
        return False
    if not facts["sha256"]:
        progress(0, facts["bytes"])
        return False
    return _sha256(content, progress) == facts["sha256"]


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
def _index(folder: Path, sha256: str) -> Index:
    """Read an index once in each process; by `sha256`, since it may have been mended since."""
    return read_index(folder)


def _rows(job: CheckJob) -> Iterator[dict[str, int | str]]:
    """Yield the index's rows of the shard, in storage order."""
    index = _index(job.folder, job.index_sha256)
    rows = np.flatnonzero(index.column("shard") == job.number)
    rows = rows[np.argsort(index.column("offset")[rows])]
    yield from index.table.take(rows).to_pylist()


def _check_samples(job: CheckJob, path: Path, content: memoryview) -> list[Problem]:
    """Look at each sample; the place of a problem is SHARD:KEY."""
    if path.suffix == ".beton":
        return check_ffcv_samples(path, deep=job.deep)
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
    name = member_name(content, offset)
    if name.rpartition(".")[0] != row["key"]:
        raise ValueError(f"the tar has {name!r} there")
    data = bytes(content[offset : offset + length])
    if _index(job.folder, job.index_sha256).has_checksums and zlib_ng.crc32(data) != row["crc32"]:
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
    """Compare DALI's index with ours."""
    path = (job.folder / job.facts["name"]).with_suffix(".idx")
    rows = list(_rows(job))
    try:
        # Not splitlines or split(): keys have blanks and line ends of Unicode in them.
        first, *lines, last = path.read_text(encoding="utf-8").split("\n")
        fits = (first, last) == (f"{DALI_INDEX_VERSION} {len(rows)}", "")
        fits = fits and all(is_dali_line(*pair) for pair in zip(lines, rows, strict=True))
    except (OSError, ValueError):
        fits = False
    return [] if fits else [Problem("damaged DALI index", path.name, "it does not fit the shard")]


def check_ffcv_samples(path: Path, *, deep: bool) -> list[Problem]:
    """Look at each sample; the place of a problem is FILE:KEY.

    Args:
        path: of the file.
        deep: decode every image that is not raw pixels.
    """
    try:
        source = FfcvSource(path)
    except DataError as error:
        return [Problem("damaged file", path.name, str(error))]
    problems = []
    for index in range(len(source)):
        where = f"{path.name}:{source.keys[index].as_py()}"
        try:
            [sample] = source.read_many([index])
            if deep and sample.data.ndim == 1:
                _check_image(sample)
        except UnusableImageError as error:
            problems.append(Problem(error.kind, where, str(error)))
        except ValueError as error:
            problems.append(Problem("damaged sample", where, str(error)))
    return problems


def _check_image(sample: Sample) -> None:
    data = sample.data.tobytes()
    header = read_header(data)
    if (header.width, header.height) != (sample.width, sample.height):
        raise ValueError(f"{header.width} x {header.height} pixels, which the tables deny")
    check_usable(header, data, must_load=True, decode=True)
