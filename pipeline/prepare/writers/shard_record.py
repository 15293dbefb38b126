"""The state of an unfinished conversion: what is known of each shard that is complete.

A folder `.parts` beside the shards holds one small file for each. When all are there, they become
the index, the manifest and the report, and the folder goes. So a conversion can be stopped at any
moment and go on, and shards can be written by many machines.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import Problem
from pipeline.formats.index import SCHEMA
from pipeline.formats.shard_folder import STATE_FOLDER, record_path
from pipeline.storage.files import finish_part, part_path

if TYPE_CHECKING:
    from pipeline.storage.remote import RemoteFolder

RECORD_SCHEMA = SCHEMA.append(pa.field("notes", pa.int32()))
"""The index's columns, and what is unusual about each image (`images.usable.Oddity`)."""


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What became of one shard.

    Attributes:
        name: of the tar.
        size_bytes: of the tar.
        sha256: of the tar, in hexadecimal; empty if not wanted.
        problems: images that were left out.
        table: `RECORD_SCHEMA`, in storage order.
    """

    name: str
    size_bytes: int
    sha256: str
    problems: tuple[Problem, ...]
    table: pa.Table


def write_record(folder: Path, record: ShardRecord) -> None:
    """Write `record` to the state folder of `folder`."""
    about = {"size_bytes": record.size_bytes, "sha256": record.sha256, "problems": record.problems}
    table = record.table.replace_schema_metadata({"millstream": json.dumps(about)})
    part = part_path(_path(folder, record.name))
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    finish_part(part)


def read_record(folder: Path, name: str) -> ShardRecord | None:
    """Return the record of shard `name`, or None if the shard is not complete."""
    shard, path = folder / name, _path(folder, name)
    if not (shard.exists() and path.exists()):
        return None
    try:
        with pa.OSFile(str(path), "rb") as file:
            table = pa.ipc.open_file(file).read_all()
        about = json.loads((table.schema.metadata or {})[b"millstream"])
    except (pa.ArrowException, KeyError, ValueError):
        return None  # damaged: the shard is made again
    if not table.schema.equals(RECORD_SCHEMA) or shard.stat().st_size != about["size_bytes"]:
        return None
    return ShardRecord(
        name=name,
        size_bytes=about["size_bytes"],
        sha256=about["sha256"],
        problems=tuple(Problem(*problem) for problem in about["problems"]),
        table=table.replace_schema_metadata(None),
    )


def in_canonical_order(tables: list[pa.Table]) -> pa.Table:
    """Join tables and sort by label and key; empties `tables`, to save memory."""
    table = pa.concat_tables(tables)
    tables.clear()
    by_label_and_key = pc.SortOptions([("label", "ascending"), ("key", "ascending")])
    order = pc.call_function("sort_indices", [table], by_label_and_key)
    # The keys first: sorting them takes the most memory, and the other columns are then not there.
    names = sorted(table.column_names, key=lambda name: name != "key")
    columns = {name: table.column(name).take(order).combine_chunks() for name in names}
    return pa.table({name: columns[name] for name in table.column_names})


def _path(folder: Path, name: str) -> Path:
    return folder / STATE_FOLDER / Path(name).with_suffix(".arrow")


def store_shard(remote: "RemoteFolder", folder: Path, name: str) -> None:
    """Store the shard `name`, which is complete in `folder`, and give its blocks back."""
    tar = folder / name
    size = tar.stat().st_size
    for path in (tar, tar.with_suffix(".idx"), record_path(tar)):
        remote.upload(path, str(path.relative_to(folder)))
    make_empty(tar, size)


def make_empty(path: Path, size: int) -> None:
    """Make a file of `size` bytes that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
