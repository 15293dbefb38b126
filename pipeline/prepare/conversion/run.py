"""A whole split: from a scan to a folder of shards that is complete, or can be gone on with.

The order of writing is the protocol: a shard gets its name when it is on the disk, the index is
written when all shards are, the manifest when the index is. A run that finds the state of an
earlier one, for the same input and options, writes what is missing.
"""

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DataError, OutputError, Problem, UnusableInputError
from pipeline.formats.index import ShardEntry, write_index
from pipeline.formats.shard_folder import MANIFEST_NAME, STATE_FOLDER, FolderState, state_of_folder
from pipeline.prepare.conversion.conversion import Conversion, resume_key
from pipeline.prepare.conversion.manifest import (
    Manifest,
    build_manifest,
    read_manifest,
    shard_facts,
    write_manifest,
)
from pipeline.prepare.conversion.parts import WHOLE, Part, claimed, read_count
from pipeline.prepare.conversion.report import write_report
from pipeline.prepare.conversion.workers import map_in_processes
from pipeline.prepare.writers.job import Progress, ShardJob
from pipeline.prepare.writers.shard_record import ShardRecord, in_canonical_order, read_record
from pipeline.prepare.writers.shard_writer import write_shard
from pipeline.storage.files import remove_parts, write_atomically

RunJobs = Callable[[Iterable[ShardJob], Progress], Iterator[tuple[Problem, ...]]]
"""Writes the shards of jobs, here or elsewhere, and yields the problems of each, in any order."""

STATE_NAME = "conversion.json"


def run_in_turn(jobs: Iterable[ShardJob], progress: Progress) -> Iterator[tuple[Problem, ...]]:
    """Write the shards of jobs in this process."""
    for job in jobs:
        yield write_shard(job, progress)


def convert(
    conversion: Conversion,
    progress: Progress,
    part: Part = WHOLE,
    run: RunJobs = run_in_turn,
    resumed: Progress | None = None,
) -> Manifest | None:
    """Write the shards of `part`; with all of them, the index and the manifest too.

    What is there already is kept.

    Args:
        conversion: of one split.
        progress: called for what is written.
        part: of the shards.
        run: who writes.
        resumed: called instead for what is there already; by default `progress`.

    Returns:
        The manifest, None if only a part was written.

    Raises:
        OutputError: if the folder is in use or holds another conversion.
        UnusableInputError: if there are problems and they are not to be skipped, after all images
            were looked at. The shards without problems are kept.
    """
    scan, resumed = conversion.scan, resumed or progress
    if (manifest := find_finished(conversion)) is not None:
        _clean(conversion.folder)
        resumed(len(scan), int(scan.sizes.sum()))
        return manifest
    with _claimed(conversion, part):
        problems = _write_missing(conversion, part, run, progress, resumed)
        if problems and conversion.writing.on_error == "fail":
            raise UnusableInputError(problems)
        return _complete(conversion) if part == WHOLE else None


def merge(conversion: Conversion) -> Manifest:
    """Complete a folder whose shards were written in parts.

    Raises:
        OutputError: if shards are missing, naming the parts that have to be run.
        UnusableInputError: as `convert` does.
    """
    if (manifest := find_finished(conversion)) is not None:
        _clean(conversion.folder)
        return manifest
    with _claimed(conversion, WHOLE):
        _check_all_written(conversion)
        problems = list(conversion.scan.problems)
        problems += (p for record in _records(conversion) for p in record.problems)
        if problems and conversion.writing.on_error == "fail":
            raise UnusableInputError(problems)
        return _complete(conversion)


def find_finished(conversion: Conversion) -> Manifest | None:
    """Return the manifest if the folder already holds the result of `conversion`.

    Raises:
        OutputError: if it holds the result of another one.
        UnusableInputError: if images were left out of it, and now none is to be.
    """
    manifest = read_manifest(conversion.folder)
    if manifest is None:
        return None
    same_source = manifest["source"] == conversion.scan.facts
    if not (same_source and manifest["options"] == conversion.options()):
        other = "other options" if same_source else "another input"
        raise OutputError(
            f"{conversion.place}: holds shards made from {other};"
            " choose another --output, or remove that folder"
        )
    for shard in manifest["shards"] if conversion.remote is None else ():
        path = conversion.folder / shard["name"]
        if not path.is_file() or path.stat().st_size != shard["bytes"]:
            raise OutputError(
                f"{path}: is missing, or has not the {shard['bytes']} bytes that it was written"
                " with; tools/check_data.py --repair SOURCE makes it again"
            )
    if manifest["left_out"] and conversion.writing.on_error == "fail":
        raise UnusableInputError([Problem(**left_out) for left_out in manifest["left_out"]])
    return manifest


def check_output(conversion: Conversion) -> Manifest | None:
    """Look whether `conversion` could begin or go on, as `convert` would; nothing is changed.

    Raises:
        OutputError, UnusableInputError: as `convert` does.
    """
    if (manifest := find_finished(conversion)) is None:
        refuse_other_content(state_of_folder(conversion.folder), str(conversion.folder))
        path = conversion.folder / STATE_FOLDER / STATE_NAME
        if path.exists():
            _refuse_other_state(conversion, path)
    return manifest


def refuse_other_content(state: FolderState, place: str) -> None:
    """Refuse an output that holds something, and no conversion.

    Raises:
        OutputError: naming the `place`.
    """
    if state.is_empty or state.is_unfinished or state.has_manifest:
        return
    raise OutputError(
        f"{place}: is not empty, and there is no conversion in it to go on with; choose another"
        f" --output; or, if it holds shards without their {MANIFEST_NAME}, restore that from a"
        " copy, or remove the folder"
    )


def _refuse_other_state(conversion: Conversion, path: Path) -> None:
    if path.read_bytes() != resume_key(conversion):
        raise OutputError(
            f"{conversion.place}: holds the beginning of another conversion (the input or the"
            " options have changed); remove that folder, or choose another --output"
        )


@contextmanager
def _claimed(conversion: Conversion, part: Part) -> Iterator[None]:
    """Hold the output folder, and see that its state, if any, is of this conversion."""
    folder = conversion.folder
    state = folder / STATE_FOLDER
    refuse_other_content(state_of_folder(folder), str(folder))
    state.mkdir(parents=True, exist_ok=True)

    def check_state() -> None:
        path = state / STATE_NAME
        if path.exists():
            _refuse_other_state(conversion, path)
        else:
            write_atomically(path, resume_key(conversion))

    with claimed(state, part, check_state):
        if part == WHOLE:  # nobody else is writing
            remove_parts(folder)
        yield


def _check_all_written(conversion: Conversion) -> None:
    names = [conversion.name(s) for s in range(conversion.plan.num_shards)]
    missing = [s for s, name in enumerate(names) if not read_record(conversion.folder, name)]
    if missing:
        count = read_count(conversion.folder / STATE_FOLDER)
        parts = ", ".join(str(Part(n, count)) for n in sorted({s % count for s in missing}))
        raise OutputError(
            f"{conversion.place}: {len(missing)} of {len(names)} shards are missing, such as"
            f" {names[missing[0]]}; run these parts (again): {parts}"
        )


def _write_missing(
    conversion: Conversion, part: Part, run: RunJobs, progress: Progress, resumed: Progress
) -> list[Problem]:
    """Write the shards that are not there; returns all problems, those of earlier runs too."""
    folder, scan, plan = conversion.folder, conversion.scan, conversion.plan
    problems, missing = list(scan.problems), []
    for shard in part.shards(plan.num_shards):
        record = read_record(folder, conversion.name(shard))
        if record is None:
            missing.append(shard)
        else:
            problems += record.problems
            entries = plan.entries(shard)
            resumed(len(entries), int(scan.sizes[entries].sum()))
    if conversion.remote is None:
        _check_space(folder, conversion.needed_bytes(plan, missing))
    for found in run((conversion.job(plan, shard) for shard in missing), progress):
        problems += found
    return problems


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"the shards need {needed / 1e6:,.1f} MB more, and {free / 1e6:,.1f} MB are free",
            str(folder),
        )


def _complete(conversion: Conversion) -> Manifest:
    """Write index, report and manifest, in this order."""
    folder, problems = conversion.folder, list(conversion.scan.problems)
    shards, tables = [], []
    for record in _records(conversion):
        shards.append(shard_facts(record))
        tables.append(record.table)
        problems += record.problems
    table = in_canonical_order(tables)
    if not table.num_rows:
        raise DataError(f"{conversion.split}: no image is left that can be used")
    write_index(
        folder,
        table=table.drop_columns("notes"),
        classes=conversion.scan.classes,
        shards=[ShardEntry(s["name"], s["samples"], s["bytes"]) for s in shards],
        has_checksums=conversion.writing.checksums,
    )
    write_report(
        folder,
        keys=table.column("key"),
        notes=table.column("notes").to_numpy(),
        problems=problems,
    )
    manifest = build_manifest(
        folder,
        split=conversion.split,
        scan=conversion.scan,
        options=conversion.options(),
        shards=shards,
        problems=problems,
        table=table,
    )
    write_manifest(folder, manifest)
    _clean(folder)
    return manifest


def _clean(folder: Path) -> None:
    """Remove the state of a finished conversion."""
    remove_parts(folder)
    shutil.rmtree(folder / STATE_FOLDER, ignore_errors=True)


def _records(conversion: Conversion) -> Iterator[ShardRecord]:
    for shard in range(conversion.plan.num_shards):
        record = read_record(conversion.folder, conversion.name(shard))
        assert record is not None, f"shard {shard} was written a moment ago"
        yield record


def run_in_processes(
    jobs: Iterable[ShardJob], progress: Progress, *, workers: int
) -> Iterator[tuple[Problem, ...]]:
    """Write the shards of `jobs` in `workers` processes; yields the problems of each.

    Raises as `map_in_processes` does.
    """
    return map_in_processes(write_shard, jobs, progress, workers=workers)
