"""The index of a shard directory: where each sample lies, in canonical order, in one Arrow file.

It is mapped into memory, so opening 1.3 million samples takes milliseconds and all processes of a
machine share one copy. A checksum over it all covers what the samples' own cannot: a flipped
bit in a label.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from pipeline.errors import DataError
from pipeline.formats.shard_folder import INDEX_NAME
from pipeline.storage.files import finish_part, is_plain_name, part_path

INDEX_VERSION = 1

SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("label", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("crc32", pa.uint32()),
        ("key", pa.string()),
    ]
)
_REMEDY = "make the shards again with tools/make_shards.py"


class ShardEntry(NamedTuple):
    """One shard file: its name, how many samples it holds, how many bytes it has."""

    name: str
    samples: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Index:
    """The samples of one split.

    Attributes:
        classes: class names; the position is the label.
        shards: in order of number; the column `shard` points into it.
        has_checksums: whether the column `crc32` holds checksums (of the encoded images), or zeros.
        table: `SCHEMA`, one chunk, sorted by label and key.
    """

    classes: tuple[str, ...]
    shards: tuple[ShardEntry, ...]
    has_checksums: bool
    table: pa.Table

    def column(self, name: str) -> NDArray[np.integer]:
        """Return a numeric column without a copy."""
        return self.table.column(name).chunk(0).to_numpy(zero_copy_only=True)


def write_index(
    folder: Path,
    *,
    table: pa.Table,
    classes: Sequence[str],
    shards: Sequence[ShardEntry],
    has_checksums: bool,
) -> None:
    """Write the index of `folder`, complete or not at all.

    Args:
        folder: of the shards.
        table: `SCHEMA`, one chunk, sorted by label and key.
        classes: names; the position is the label.
        shards: in order of number.
        has_checksums: whether `crc32` is filled in.
    """
    about: dict[str, object] = {
        "version": INDEX_VERSION,
        "classes": list(classes),
        "shards": [list(shard) for shard in shards],
        "has_checksums": has_checksums,
    }
    about["crc32"] = _checksum(table, about)
    table = table.replace_schema_metadata({"millstream": json.dumps(about)})
    part = part_path(folder / INDEX_NAME)
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    finish_part(part)


def read_index(folder: Path) -> Index:
    """Read the index of `folder` and check that it is whole.

    Raises:
        DataError: if it is damaged or of another version.
    """
    path = folder / INDEX_NAME
    try:
        with pa.OSFile(str(path)) as file:  # no map: what it loses meanwhile would end the process
            table = pa.ipc.open_file(file.read_buffer()).read_all()
        about = json.loads((table.schema.metadata or {})[b"millstream"])
        version = about["version"]
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a readable index ({error}); {_REMEDY}") from error
    if version != INDEX_VERSION:
        raise DataError(
            f"{path}: an index of version {version}, and this program reads version"
            f" {INDEX_VERSION}; {_REMEDY}"
        )
    crc32 = about.pop("crc32", None)
    if not table.schema.equals(SCHEMA) or crc32 != _checksum(table, about):
        raise DataError(f"{path}: damaged: its checksum does not hold; {_REMEDY}")
    index = Index(
        classes=tuple(about["classes"]),
        shards=tuple(ShardEntry(*shard) for shard in about["shards"]),
        has_checksums=about["has_checksums"],
        table=table,
    )
    if reason := _impossible(index):
        raise DataError(f"{path}: {reason}; {_REMEDY}")
    return index


def _impossible(index: Index) -> str:
    """Say what in an index no program of ours writes; it may come from anybody, anywhere."""
    names = [shard.name for shard in index.shards]
    for name in names:
        if not is_plain_name(name):
            return f"the shard name {name!r} is not that of a file in the same folder"
    if len(set(names)) < len(names):
        return "two shards have the same name"
    shard, label, offset, length = map(index.column, ("shard", "label", "offset", "length"))
    if not len(shard):
        return "it has no samples"
    if not 0 <= label.min() <= label.max() < len(index.classes):
        return f"a label is not one of its {len(index.classes)} classes"
    if not 0 <= shard.min() <= shard.max() < len(names):
        return f"a sample lies in none of its {len(names)} shards"
    sizes = np.array([entry.size_bytes for entry in index.shards], np.int64)
    if min(offset.min(), length.min()) < 0 or (offset > sizes[shard] - length).any():
        return "a sample lies outside its shard"
    return ""


def _checksum(table: pa.Table, about: dict[str, object]) -> int:
    """CRC-32 over `about` and the buffers of all columns; `table` has one chunk and no nulls."""
    checksum = zlib_ng.crc32(json.dumps(about, sort_keys=True).encode())
    for column in table.columns:
        for buffer in column.chunk(0).buffers()[1:]:
            checksum = zlib_ng.crc32(buffer, checksum)
    return checksum
