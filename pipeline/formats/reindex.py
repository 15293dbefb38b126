"""An index made anew from its shards alone, as when it was lost; the manifest proves it right."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from zlib_ng import zlib_ng

from pipeline.errors import DataError
from pipeline.formats.index import SCHEMA, ShardEntry, write_index
from pipeline.formats.manifest import Manifest
from pipeline.formats.pieces import in_canonical_order
from pipeline.formats.repair_folder import repair_folder
from pipeline.formats.shard_folder import INDEX_NAME
from pipeline.images.header import read_header
from pipeline.storage.files import file_sha256


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
