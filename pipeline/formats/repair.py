"""Damaged shards made again from the source they came from, and nothing else touched.

A shard is a pure function of the source and the options, so the new one must have the SHA-256 that
the manifest has; one that has not is thrown away, and the images that differ are named.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.conversion import Conversion, Options
from pipeline.formats.manifest import Manifest
from pipeline.formats.pieces import read_piece
from pipeline.formats.plan import PlanConfig
from pipeline.formats.repair_folder import repair_folder
from pipeline.formats.scan import Scan, source_facts
from pipeline.formats.shard_writer import Progress, WriteConfig, write_shard
from pipeline.formats.source_changes import (
    changes_of_shard,
    changes_of_source,
    in_words,
    trusted_index,
)
from pipeline.images.recode import IntakeConfig, RecodeConfig


def repair_shards(
    folder: Path, manifest: Manifest, scan: Scan, shards: Sequence[int], progress: Progress
) -> dict[int, str]:
    """Make `shards` of `folder` again.

    Returns:
        Those that did not become what they were, and stay as they are: number -> why.

    Raises:
        DataError: if `scan` is not of the source that the manifest identifies, or this program
            would encode other bytes, or it is an FFCV file.
        OutputError: if another process repairs the folder.
    """
    failures: dict[int, str] = {}
    with repair_folder(folder, manifest) as scratch:
        conversion = _same_conversion(folder, manifest, scan)
        plan = conversion.plan()
        for shard in shards:
            job = replace(conversion.job(plan, shard), folder=scratch)
            write_shard(job, progress)
            if failure := _difference(folder, manifest, shard, scratch):
                failures[shard] = failure
                continue
            made = scratch / job.name
            made.with_suffix(".idx").replace((folder / job.name).with_suffix(".idx"))
            made.replace(folder / job.name)
    return failures


def _same_conversion(folder: Path, manifest: Manifest, scan: Scan) -> Conversion:
    if (facts := source_facts(scan)) != (wanted := manifest["source"]):
        index = trusted_index(folder, manifest)
        changes = in_words(changes_of_source(scan, index, manifest)) if index else ""
        raise DataError(
            f"the source is not the one that {folder} was made from: {facts['images']:,} images of"
            f" {facts['bytes']:,} bytes, and there were {wanted['images']:,} of"
            f" {wanted['bytes']:,}; {changes or 'files or classes have other names'}"
        )
    options = manifest["options"]
    try:
        writing, layout = _writing(options), _layout(options)
    except KeyError as error:
        raise DataError(f"{folder}: the manifest's options have no {error}") from error
    if writing.intake.recode.codec != options["codec"]:
        raise DataError(
            f"{folder}: its images were encoded by {options['codec']}, and here is"
            f" {writing.intake.recode.codec}, which may give other bytes; install that version"
        )
    conversion = Conversion(
        scan=scan, folder=folder, split=manifest["split"], layout=layout, writing=writing
    )
    names = [conversion.name(shard) for shard in range(conversion.plan().num_shards)]
    if names != [shard["name"] for shard in manifest["shards"]]:
        raise DataError(f"{folder}: this program would not divide the source into these shards")
    return conversion


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


def _difference(folder: Path, manifest: Manifest, shard: int, scratch: Path) -> str:
    """Say what makes a shard that was made again another one; empty if it is what it was."""
    facts = manifest["shards"][shard]
    piece = read_piece(scratch, facts["name"])
    assert piece is not None, "it was written a moment ago"
    if (piece.sha256, piece.size_bytes) == (facts["sha256"], facts["bytes"]):
        return ""
    index = trusted_index(folder, manifest)
    if index is None:
        changes = "the index, which would tell them, cannot be used"
    else:
        changes = in_words(changes_of_shard(piece, shard, index, manifest))
    return (
        f"{facts['name']}: made again from the source, it is not what it was, and stays as it is;"
        f" images that have changed in the source: {changes or 'none that the index knows'}"
    )
