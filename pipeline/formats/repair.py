"""Damaged shards made again from the source they came from, and nothing else touched.

A shard is a pure function of the source and the options, so the new one must have the SHA-256 that
the manifest has; one that has not is thrown away, and the sample that differs is named.
"""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.formats.conversion import Conversion
from pipeline.formats.index import read_index
from pipeline.formats.intake import IntakeConfig
from pipeline.formats.manifest import Manifest, Options, source_facts
from pipeline.formats.parts import WHOLE, claimed
from pipeline.formats.pieces import PARTS_FOLDER, Piece, read_piece
from pipeline.formats.plan import PlanConfig
from pipeline.formats.recode import RecodeConfig
from pipeline.formats.scan import Scan
from pipeline.formats.shard_writer import Progress, WriteConfig, write_shard
from pipeline.formats.source import DataError

_REPAIR_FOLDER = ".repair"
_NAMED = 5


def repair_shards(
    folder: Path, manifest: Manifest, scan: Scan, shards: Iterable[int], progress: Progress
) -> None:
    """Make `shards` of `folder` again.

    Raises:
        DataError: if `scan` is not of the source that the manifest identifies, this program would
            encode other bytes, or a shard does not become what it was.
    """
    if Path(manifest["shards"][0]["name"]).suffix == ".beton":
        raise DataError(
            f"{folder}: an FFCV file is made again as a whole: remove the folder, and run"
            " tools/make_shards.py again with the options that its manifest.json has"
        )
    conversion = _same_conversion(folder, manifest, scan)
    plan = conversion.plan()
    scratch = folder / _REPAIR_FOLDER
    (scratch / PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
    with claimed(scratch / PARTS_FOLDER, WHOLE, lambda: None):
        for shard in shards:
            job = replace(conversion.job(plan, shard), folder=scratch)
            write_shard(job, progress)
            _check_same(scratch, manifest, shard)
            made = scratch / job.name
            made.with_suffix(".idx").replace((folder / job.name).with_suffix(".idx"))
            made.replace(folder / job.name)
        shutil.rmtree(scratch)


def _same_conversion(folder: Path, manifest: Manifest, scan: Scan) -> Conversion:
    facts, wanted = source_facts(scan), manifest["source"]
    if facts != wanted:
        raise DataError(
            f"the source is not the one that {folder} was made from: {facts['images']:,} images of"
            f" {facts['bytes']:,} bytes instead of {wanted['images']:,} of {wanted['bytes']:,}, or"
            " other names"
        )
    options = manifest["options"]
    writing = _writing(options)
    if writing.intake.recode.codec != options["codec"]:
        raise DataError(
            f"{folder}: its images were encoded by {options['codec']}, and here is"
            f" {writing.intake.recode.codec}, which may give other bytes; install that version"
        )
    return Conversion(
        scan=scan, folder=folder, split=manifest["split"], layout=_layout(options), writing=writing
    )


def _layout(options: Options) -> PlanConfig:
    return PlanConfig(
        order="kept" if options["order"] == "kept" else "shuffled",
        shard_bytes=int(options["shard_bytes"]),
        shard_samples=int(options["shard_samples"]),
    )


def _writing(options: Options) -> WriteConfig:
    recode = RecodeConfig(
        resize=int(options["resize"]),
        quality=int(options["quality"]),
        normalize=bool(options["normalize"]),
    )
    return WriteConfig(
        intake=IntakeConfig(recode=recode, verify=bool(options["verify"])),
        on_error="skip",  # what was left out then is left out again
        checksums=bool(options["checksums"]),
        json_member=bool(options["json_member"]),
    )


def _check_same(scratch: Path, manifest: Manifest, shard: int) -> None:
    facts = manifest["shards"][shard]
    piece = read_piece(scratch, facts["name"])
    assert piece is not None, "it was written a moment ago"
    if (piece.sha256, piece.size_bytes) != (facts["sha256"], facts["bytes"]):
        changed = ", ".join(_changed(scratch.parent, piece)[:_NAMED]) or "none that the index knows"
        raise DataError(
            f"{facts['name']}: made again from the source, it is not what it was, and stays as it"
            f" is; images that have changed in the source: {changed}"
        )


def _changed(folder: Path, piece: Piece) -> list[str]:
    """Return the keys of images that are not those of the index."""
    table = read_index(folder).table
    checksums = dict(
        zip(table.column("key").to_pylist(), table.column("crc32").to_pylist(), strict=True)
    )
    columns = (piece.table.column(name).to_pylist() for name in ("key", "crc32"))
    return [key for key, crc32 in zip(*columns, strict=True) if checksums.get(key) != crc32]
