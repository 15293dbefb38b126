"""A whole split: from a scan to a folder of shards that is complete or can be gone on with.

The order of writing is the protocol: a shard gets its name when it is on the disk, the index is
written when all shards are, the manifest when the index is. A run that finds the state of an
earlier one, for the same input and options, writes what is missing.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.formats.files import write_atomically
from pipeline.formats.index import ShardEntry, write_index
from pipeline.formats.manifest import (
    Manifest,
    build_manifest,
    read_manifest,
    source_facts,
    write_manifest,
)
from pipeline.formats.pieces import PARTS_FOLDER, Piece, read_piece
from pipeline.formats.plan import Plan, PlanConfig, plan_shards, shard_name
from pipeline.formats.scan import Problem, Scan
from pipeline.formats.shard_writer import Progress, ShardJob, write_shard

_STATE_NAME = "plan.json"


class OutputError(ValueError):
    """The output folder cannot be written to: it is in use, or holds something else."""


class UnusableImagesError(ValueError):
    """Images that cannot be used were found; `problems` has all of them."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} files or folders cannot be used")
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """One split to be written to `folder`."""

    scan: Scan
    folder: Path
    split: str
    layout: PlanConfig
    with_checksums: bool = True

    def options(self) -> dict[str, str | int | bool]:
        """Return what changes the bytes of the shards, for the manifest."""
        return {**asdict(self.layout), "checksums": self.with_checksums}

    def job(self, plan: Plan, shard: int) -> ShardJob:
        """Return what a worker needs to write `shard`."""
        entries = plan.entries(shard)
        return ShardJob(
            folder=self.folder,
            number=shard,
            name=shard_name(self.split, shard),
            keys=self.scan.keys.take(pa.array(entries)),
            locations=self.scan.locations.take(pa.array(entries)),
            labels=self.scan.labels[entries],
            sizes=self.scan.sizes[entries],
            reader=self.scan.reader,
            with_checksums=self.with_checksums,
        )


def convert(conversion: Conversion, progress: Progress) -> Manifest:
    """Write the shards, the index and the manifest; what is there already is kept.

    Raises:
        OutputError: if the folder is in use or holds another conversion.
        UnusableImagesError: after all images were looked at.
    """
    folder, scan = conversion.folder, conversion.scan
    if (manifest := _finished(conversion)) is not None:
        progress(len(scan), int(scan.sizes.sum()))
        return manifest
    with _claimed(conversion):
        plan = plan_shards(scan.sizes, conversion.layout)
        pieces = []
        for shard in range(plan.num_shards):
            piece = read_piece(folder, shard_name(conversion.split, shard))
            if piece is None:
                piece = write_shard(conversion.job(plan, shard), progress)
            else:
                progress(len(plan.entries(shard)), int(scan.sizes[plan.entries(shard)].sum()))
            pieces.append(piece)
        problems = [*scan.problems, *(p for piece in pieces for p in piece.problems)]
        if problems:
            raise UnusableImagesError(problems)
        return _complete(conversion, pieces)


def _finished(conversion: Conversion) -> Manifest | None:
    """Return the manifest of a finished conversion of the same input, if there is one."""
    manifest = read_manifest(conversion.folder)
    if manifest is None:
        return None
    same_source = manifest["source"] == source_facts(conversion.scan)
    if not (same_source and manifest["options"] == conversion.options()):
        other = "other options" if same_source else "another input"
        raise OutputError(
            f"{conversion.folder}: holds shards made from {other};"
            " choose another --output, or remove that folder"
        )
    return manifest


def _complete(conversion: Conversion, pieces: list[Piece]) -> Manifest:
    folder = conversion.folder
    write_index(
        folder,
        table=pa.concat_tables(piece.table.replace_schema_metadata(None) for piece in pieces),
        classes=conversion.scan.classes,
        shards=[ShardEntry(p.name, p.table.num_rows, p.size_bytes) for p in pieces],
        has_checksums=conversion.with_checksums,
    )
    manifest = build_manifest(
        folder,
        split=conversion.split,
        scan=conversion.scan,
        options=conversion.options(),
        pieces=pieces,
    )
    write_manifest(folder, manifest)
    shutil.rmtree(folder / PARTS_FOLDER)
    return manifest


@contextmanager
def _claimed(conversion: Conversion) -> Iterator[None]:
    """Hold the output folder alone, and see that its state, if any, is of this conversion."""
    folder = conversion.folder
    state = folder / PARTS_FOLDER
    if folder.exists() and not state.exists() and any(folder.iterdir()):
        raise OutputError(
            f"{folder}: is not empty, and no conversion to go on with; choose another --output"
        )
    state.mkdir(parents=True, exist_ok=True)
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{folder}: another process is writing shards here") from error
        _check_state(conversion, state / _STATE_NAME)
        yield
    finally:
        os.close(lock)


def _check_state(conversion: Conversion, path: Path) -> None:
    """Refuse to mix the shards of two conversions."""
    scan = conversion.scan
    stamps = hashlib.sha256(scan.stamps.tobytes()).hexdigest()
    identity = {"source": source_facts(scan), "stamps": stamps, "options": conversion.options()}
    if not path.exists():
        write_atomically(path, json.dumps(identity).encode())
    elif json.loads(path.read_bytes()) != identity:
        raise OutputError(
            f"{conversion.folder}: holds the beginning of another conversion (the input or the"
            " options have changed); remove that folder, or choose another --output"
        )
