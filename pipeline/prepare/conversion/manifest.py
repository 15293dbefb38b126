"""`manifest.json`: what a shard directory holds and how it was made; written last of all.

It has no dates, host names or paths of the machine: the same input and options give the same bytes.
It covers itself with a checksum, and the report with another.
"""

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError, Problem
from pipeline.formats.scan import Scan, SourceFacts
from pipeline.formats.shard_folder import INDEX_NAME, MANIFEST_NAME, REPORT_NAME
from pipeline.prepare.conversion.conversion import Options
from pipeline.prepare.conversion.report import Finding, summarize
from pipeline.prepare.writers.shard_record import ShardRecord
from pipeline.storage.files import file_sha256, is_plain_name, write_atomically

MANIFEST_VERSION = 1
_FORMAT = "millstream shards"
_REMEDY = (
    "restore it from a copy; if there is none, remove the folder and make the shards again with"
    " tools/make_shards.py"
)


CHECKSUM_KEY: Final = "sha256"


class FileFacts(TypedDict):
    """One shard, or the index."""

    name: str
    samples: int
    bytes: int
    sha256: str


class LeftOut(TypedDict):
    """A file or folder that could not be used."""

    where: str
    kind: str
    detail: str


class Manifest(TypedDict):
    """The content of the file."""

    format: str
    version: int
    software: str
    split: str
    samples: int
    bytes: int
    options: Options
    source: SourceFacts
    class_counts: dict[str, int]
    index: FileFacts
    shards: list[FileFacts]
    left_out: list[LeftOut]
    unusual: list[Finding]
    ignored: dict[str, int]
    report_sha256: str
    """Of report.tsv, in hexadecimal; empty if there is none."""
    sha256: str
    """Of all other keys (`manifest_form.checksum`)."""


def build_manifest(
    folder: Path,
    *,
    split: str,
    scan: Scan,
    options: Options,
    shards: Sequence[FileFacts],
    problems: Sequence[Problem],
    table: pa.Table,
) -> Manifest:
    """Put together the manifest of `folder`, whose index is complete.

    Args:
        folder: of the shards; its report is written, too.
        split: its name, which the shards' names begin with.
        scan: what was converted.
        options: how.
        shards: in order of number.
        problems: what was left out.
        table: `RECORD_SCHEMA`, all samples in canonical order.
    """
    counts = np.bincount(table.column("label").to_numpy(), minlength=len(scan.classes))
    index = folder / INDEX_NAME
    report = folder / REPORT_NAME
    samples = int(counts.sum())
    manifest = Manifest(
        format=_FORMAT,
        version=MANIFEST_VERSION,
        software=software(),
        split=split,
        samples=samples,
        bytes=sum(shard["bytes"] for shard in shards),
        options=options,
        source=scan.facts,
        class_counts=dict(zip(scan.classes, counts.tolist(), strict=True)),
        index=FileFacts(
            name=INDEX_NAME,
            samples=samples,
            bytes=index.stat().st_size,
            sha256=file_sha256(index),
        ),
        shards=list(shards),
        left_out=[
            LeftOut(where=printable(p.where), kind=p.kind, detail=printable(p.detail))
            for p in problems
        ],
        unusual=summarize(table.column("key"), table.column("notes").to_numpy()),
        ignored=scan.ignored,
        report_sha256=file_sha256(report) if report.exists() else "",
        sha256="",
    )
    manifest[CHECKSUM_KEY] = checksum(manifest)
    return manifest


def shard_facts(record: ShardRecord) -> FileFacts:
    """Return what the manifest says of a shard."""
    return FileFacts(
        name=record.name,
        samples=record.table.num_rows,
        bytes=record.size_bytes,
        sha256=record.sha256,
    )


def printable(text: str) -> str:
    r"""Return `text` with bytes that are not UTF-8, as in some file names, written as \xNN."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def software() -> str:
    """Return the name and version of this program."""
    try:
        return f"millstream {metadata.version('millstream')}"
    except metadata.PackageNotFoundError:
        return "millstream, not installed"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of `folder`."""
    text = json.dumps(manifest, indent=1)
    write_atomically(folder / MANIFEST_NAME, text.encode() + b"\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of `folder`, None if there is none.

    Raises:
        DataError: if it is damaged or of another version.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not a readable manifest ({error!r}); {_REMEDY}") from error
    if version != MANIFEST_VERSION:
        raise DataError(
            f"{path}: a manifest of version {version!r}, and this program reads"
            f" {MANIFEST_VERSION}; {_REMEDY}"
        )
    if fault := _fault(manifest):
        raise DataError(f"{path}: damaged: {fault}; {_REMEDY}")
    return manifest


def _fault(manifest: Manifest) -> str:
    if fault := form_fault(manifest, Manifest):
        return fault
    if manifest["format"] != _FORMAT:
        return f"format: expected {_FORMAT!r}, got {manifest['format']!r}"
    if manifest[CHECKSUM_KEY] != checksum(manifest):
        return f"its checksum, {CHECKSUM_KEY}, does not hold: something in it was changed"
    return shard_name_fault([shard["name"] for shard in manifest["shards"]])


def checksum(content: Mapping[str, object]) -> str:
    """Return the SHA-256 of `content` without its own, as JSON with sorted keys and no blanks."""
    rest = {key: value for key, value in content.items() if key != CHECKSUM_KEY}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def form_fault(value: object, form: Any, where: str = "") -> str:
    """Say what of `value`, read from JSON, is not of the type `form`; empty if all is.

    Args:
        value: to be looked at.
        form: a TypedDict, a dict or list with arguments, a union, or a plain type.
        where: the place of `value`, for the answer.
    """
    place = where or "it"
    if is_typeddict(form):
        if not isinstance(value, dict):
            return _unexpected(place, "an object", value)
        for key, item_form in get_type_hints(form).items():
            inner = f"{where}.{key}" if where else key
            if key not in value:
                return f"{inner} is missing"
            if fault := form_fault(value[key], item_form, inner):
                return fault
        return ""
    if get_origin(form) in (list, dict):
        return _fault_within(value, form, place)
    is_union = get_origin(form) in (Union, UnionType)
    kinds = get_args(form) if is_union else (form,)
    if type(value) not in kinds:  # a bool is no number here
        return _unexpected(place, " or ".join(kind.__name__ for kind in kinds), value)
    return ""


def shard_name_fault(names: list[str]) -> str:
    """Say which of the names of shards is no name of a file beside the manifest."""
    if not names:
        return "shards has none"
    for name in names:
        if not is_plain_name(name):
            return f"the shard {name!r} is not a file in the same folder"
    return ""


def _fault_within(value: object, form: Any, where: str) -> str:
    item_form = get_args(form)[-1]  # keys of JSON are strings
    if get_origin(form) is list:
        if not isinstance(value, list):
            return _unexpected(where, "a list", value)
        items = enumerate(value)
    else:
        if not isinstance(value, dict):
            return _unexpected(where, "an object", value)
        items = value.items()
    faults = (form_fault(item, item_form, f"{where}[{key!r}]") for key, item in items)
    return next(filter(None, faults), "")


def _unexpected(where: str, kind: str, value: object) -> str:
    return f"{where}: expected {kind}, got {reprlib.repr(value)}"
