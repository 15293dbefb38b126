"""`manifest.json`: what a shard directory holds and how it was made; written last of all.

It has no dates, host names or paths of the machine: the same input and options give the same bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.formats.files import write_atomically
from pipeline.formats.index import INDEX_NAME
from pipeline.formats.pieces import Piece
from pipeline.formats.scan import Scan
from pipeline.formats.source import DataError

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1


class ShardFacts(TypedDict):
    """One shard, as the manifest has it."""

    name: str
    samples: int
    bytes: int
    sha256: str


class SourceFacts(TypedDict):
    """What the shards were made from."""

    fingerprint: str
    images: int
    bytes: int


class Manifest(TypedDict):
    """The content of the file."""

    format: str
    version: int
    software: str
    split: str
    samples: int
    bytes: int
    options: dict[str, str | int | bool]
    source: SourceFacts
    class_counts: dict[str, int]
    index: ShardFacts
    shards: list[ShardFacts]
    skipped: list[list[str]]
    ignored: dict[str, int]


def build_manifest(
    folder: Path,
    *,
    split: str,
    scan: Scan,
    options: dict[str, str | int | bool],
    pieces: Sequence[Piece],
) -> Manifest:
    """Put together the manifest of `folder`, whose index is complete."""
    counts = np.zeros(len(scan.classes), np.int64)
    for piece in pieces:
        counts += np.bincount(piece.table.column("label").to_numpy(), minlength=len(counts))
    index = (folder / INDEX_NAME).read_bytes()
    samples = int(counts.sum())
    return Manifest(
        format="millstream shards",
        version=MANIFEST_VERSION,
        software=software(),
        split=split,
        samples=samples,
        bytes=sum(piece.size_bytes for piece in pieces),
        options=options,
        source=source_facts(scan),
        class_counts=dict(zip(scan.classes, counts.tolist(), strict=True)),
        index=ShardFacts(
            name=INDEX_NAME,
            samples=samples,
            bytes=len(index),
            sha256=hashlib.sha256(index).hexdigest(),
        ),
        shards=[
            ShardFacts(name=p.name, samples=p.table.num_rows, bytes=p.size_bytes, sha256=p.sha256)
            for p in pieces
        ],
        skipped=[],
        ignored=scan.ignored,
    )


def software() -> str:
    """Return the name and version of this program."""
    try:
        return f"millstream {metadata.version('millstream')}"
    except metadata.PackageNotFoundError:
        return "millstream, not installed"


def source_facts(scan: Scan) -> SourceFacts:
    """Return what identifies the input of a conversion: names, labels and sizes, not times."""
    digest = hashlib.sha256()
    for array in (scan.keys, scan.locations):
        for buffer in array.buffers()[1:]:
            digest.update(buffer or b"")
    digest.update(scan.labels.tobytes())
    digest.update(scan.sizes.tobytes())
    digest.update("\0".join(scan.classes).encode(errors="surrogateescape"))
    return SourceFacts(
        fingerprint=digest.hexdigest(), images=len(scan), bytes=int(scan.sizes.sum())
    )


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
        manifest = json.loads(path.read_text())
        version = manifest["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a readable manifest ({error}); make the shards again"
        ) from error
    if version != MANIFEST_VERSION:
        raise DataError(
            f"{path}: a manifest of version {version}, and this program reads {MANIFEST_VERSION};"
            " make the shards again"
        )
    return manifest
