"""Damaged shards made again from the source they came from, and nothing else touched.

A shard is a pure function of the source and the options, so the new one must have the SHA-256 that
the manifest has; one that has not is thrown away, and the images that differ are named.
"""

import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from zlib_ng import zlib_ng

from pipeline.errors import DataError
from pipeline.formats.index import SCHEMA, ShardEntry, write_index
from pipeline.formats.scan import Scan
from pipeline.formats.shard_folder import INDEX_NAME, STATE_FOLDER
from pipeline.images.header import read_header
from pipeline.images.recode import ImageConfig, RecodeConfig
from pipeline.prepare.checking.changes import (
    changes_of_shard,
    changes_of_source,
    in_words,
    trusted_index,
)
from pipeline.prepare.conversion.conversion import Conversion, Options
from pipeline.prepare.conversion.manifest import Manifest
from pipeline.prepare.conversion.parts import WHOLE, claimed
from pipeline.prepare.conversion.plan import PlanConfig
from pipeline.prepare.writers.job import Progress, WriteConfig
from pipeline.prepare.writers.shard_record import in_canonical_order, read_record
from pipeline.prepare.writers.shard_writer import write_shard
from pipeline.storage.files import file_sha256

_NAME = ".repair"


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
        plan = conversion.plan
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
    if (facts := scan.facts) != (wanted := manifest["source"]):
        index = trusted_index(folder, manifest)
        changes = in_words(changes_of_source(scan, index, manifest)) if index else ""
        raise DataError(
            f"the source is not the one that {folder} was made from: {facts['images']:,} images of"
            f" {facts['bytes']:,} bytes, and there were {wanted['images']:,} of"
            f" {wanted['bytes']:,}; {changes or 'files or classes have other names'}"
        )
    options = manifest["options"]
    try:
        writing, plan_config = _writing(options), _plan_config(options)
    except KeyError as error:
        raise DataError(f"{folder}: the manifest's options have no {error}") from error
    if writing.images.recode.codec != options["codec"]:
        raise DataError(
            f"{folder}: its images were encoded by {options['codec']}, and here is"
            f" {writing.images.recode.codec}, which may give other bytes; install that version"
        )
    conversion = Conversion(
        scan=scan, folder=folder, split=manifest["split"], plan_config=plan_config, writing=writing
    )
    names = [conversion.name(shard) for shard in range(conversion.plan.num_shards)]
    if names != [shard["name"] for shard in manifest["shards"]]:
        raise DataError(f"{folder}: this program would not divide the source into these shards")
    return conversion


def _plan_config(options: Options) -> PlanConfig:
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
        images=ImageConfig(recode=recode, verify=bool(options["verify"])),
        on_error="skip",  # what was left out then is left out again
        checksums=bool(options["checksums"]),
        json_member=bool(options["json_member"]),
    )


def _difference(folder: Path, manifest: Manifest, shard: int, scratch: Path) -> str:
    """Say what makes a shard that was made again another one; empty if it is what it was."""
    facts = manifest["shards"][shard]
    record = read_record(scratch, facts["name"])
    assert record is not None, "it was written a moment ago"
    if (record.sha256, record.size_bytes) == (facts["sha256"], facts["bytes"]):
        return ""
    index = trusted_index(folder, manifest)
    if index is None:
        changes = "the index, which would tell them, cannot be used"
    else:
        changes = in_words(changes_of_shard(record, shard, index, manifest))
    return (
        f"{facts['name']}: made again from the source, it is not what it was, and stays as it is;"
        f" images that have changed in the source: {changes or 'none that the index knows'}"
    )


@contextmanager
def repair_folder(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield a folder in `folder`, on the same file system, which is removed however it ends.

    Raises:
        DataError: if `folder` holds an FFCV file.
        OutputError: if another process repairs it.
    """
    if Path(manifest["shards"][0]["name"]).suffix == ".beton":
        raise DataError(
            f"{folder}: an FFCV file is made again as a whole, with its index: remove the folder,"
            " and run tools/make_shards.py again with the options that its manifest.json has"
        )
    scratch = folder / _NAME
    (scratch / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    with claimed(scratch / STATE_FOLDER, WHOLE, lambda: None):
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch)


def rebuild_index(folder: Path, manifest: Manifest) -> None:
    """Write the index of `folder`, whose shards are sound.

    Raises:
        DataError: if the result is not what the manifest says, or it is the index of an FFCV file;
            what was there is then kept.
        OutputError: if another process repairs the folder.
    """
    has_checksums = bool(manifest["options"].get("checksums"))
    shards = [ShardEntry(s["name"], s["samples"], s["bytes"]) for s in manifest["shards"]]
    with repair_folder(folder, manifest) as scratch:
        tables = [_read_shard(folder, i, s.name, has_checksums) for i, s in enumerate(shards)]
        write_index(
            scratch,
            table=in_canonical_order(tables),
            classes=tuple(manifest["class_counts"]),
            shards=shards,
            has_checksums=has_checksums,
        )
        made = scratch / INDEX_NAME
        if file_sha256(made) != manifest["index"]["sha256"]:
            raise DataError(
                f"{folder / INDEX_NAME}: made again from the shards, it is not what the manifest"
                " says: a shard is damaged, or another version of pyarrow wrote it"
            )
        made.replace(folder / INDEX_NAME)


def _read_shard(folder: Path, number: int, name: str, has_checksums: bool) -> pa.Table:
    try:
        rows = list(_rows(folder / name, number, has_checksums=has_checksums))
    except (tarfile.TarError, ValueError, FileNotFoundError) as error:
        raise DataError(
            f"{folder / INDEX_NAME}: cannot be made again while {name} is damaged ({error})"
        ) from error
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _rows(path: Path, number: int, *, has_checksums: bool) -> Iterator[dict[str, int | str]]:
    row: dict[str, int | str] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, extension = member.name.rpartition(".")
            if extension == "cls":
                row["label"] = int(_content(tar, member))
                yield row
            elif extension not in ("i4", "json"):
                data = _content(tar, member)
                header = read_header(data)
                row = {
                    "shard": number,
                    "offset": member.offset_data,
                    "length": member.size,
                    "width": header.width,
                    "height": header.height,
                    "crc32": zlib_ng.crc32(data) if has_checksums else 0,
                    "key": key,
                }


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "shards have files only"
    return file.read()
