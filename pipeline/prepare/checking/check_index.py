"""What lies beside the shards, index and report, compared with the manifest."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, Problem
from pipeline.formats.index import Index, read_index
from pipeline.formats.shard_folder import INDEX_NAME, MANIFEST_NAME, REPORT_NAME
from pipeline.prepare.conversion.manifest import Manifest
from pipeline.storage.files import file_sha256

_RESTORE = "restore it from a copy, or remove the folder and make the shards again"
_WITHOUT_INDEX = "no sample can be looked at by itself, and no DALI index compared"


def check_index(folder: Path, manifest: Manifest) -> list[Problem]:
    """Compare the index with the manifest; if there is a problem, the index proves nothing."""
    path = folder / INDEX_NAME
    if not path.exists():
        return [Problem("missing index", INDEX_NAME, f"without it, {_WITHOUT_INDEX}")]
    if file_sha256(path) != manifest["index"]["sha256"]:
        detail = f"its SHA-256 is not the manifest's; without it, {_WITHOUT_INDEX}"
        return [Problem("damaged index", INDEX_NAME, detail)]
    try:
        return list(_check_counts(read_index(folder), manifest))
    except DataError as error:
        return [Problem("damaged index", INDEX_NAME, str(error))]


def check_report(folder: Path, manifest: Manifest) -> list[Problem]:
    """Compare the report with the manifest. Nothing but a copy of it can mend it."""
    path = folder / REPORT_NAME
    if not path.exists():
        lost = manifest["report_sha256"] != ""
        return [Problem("missing report", REPORT_NAME, _RESTORE)] if lost else []
    if file_sha256(path) == manifest["report_sha256"]:
        return []
    detail = (
        f"its SHA-256 is not the manifest's; {_RESTORE}"
        if manifest["report_sha256"]
        else "the manifest knows of none; remove it"
    )
    return [Problem("damaged report", REPORT_NAME, detail)]


def _check_counts(index: Index, manifest: Manifest) -> Iterator[Problem]:
    per_class = np.bincount(index.column("label"), minlength=len(index.classes)).tolist()
    per_shard = np.bincount(index.column("shard"), minlength=len(index.shards)).tolist()
    samples, size = len(index.table), sum(shard.size_bytes for shard in index.shards)
    pairs: list[tuple[str, object, object]] = [
        ("samples", manifest["samples"], samples),
        ("index.samples", manifest["index"]["samples"], samples),
        ("bytes", manifest["bytes"], size),
        ("the names of classes", list(manifest["class_counts"]), list(index.classes)),
        ("the number of shards", len(manifest["shards"]), len(index.shards)),
    ]
    pairs += (
        (f"class_counts[{name!r}]", manifest["class_counts"].get(name), count)
        for name, count in zip(index.classes, per_class, strict=True)
    )
    for facts, shard, count in zip(manifest["shards"], index.shards, per_shard, strict=False):
        of_shard = (shard.name, count, shard.size_bytes)
        pairs.append((facts["name"], (facts["name"], facts["samples"], facts["bytes"]), of_shard))
    for what, said, found in pairs:
        if said != found:
            detail = f"{what}: {said}, and the index has {found}; {_RESTORE}"
            yield Problem("wrong manifest", MANIFEST_NAME, detail)
