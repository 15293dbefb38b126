"""The members of a sample, and what has to be known to find them again.

KEY.jpg (or the image's own extension); KEY.cls, the label in digits, as webdataset and timm read
it; KEY.i4, the label as four little-endian bytes, the only form that DALI's reader can use; and
KEY.json, if wanted.
"""

import struct
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa
from zlib_ng import zlib_ng

from pipeline.formats.dali_index import DALI_INDEX_VERSION, dali_line
from pipeline.formats.pieces import PIECE_SCHEMA
from pipeline.images.recode import Recoded
from pipeline.storage.tar_writer import BLOCK, FixedMembers, TarWriter, padded, tar_header

_LABELS_BYTES = 4 * BLOCK  # two members of a header and a block of content


class _Row(NamedTuple):
    """One sample: the index's columns, and what DALI's index needs besides."""

    offset: int
    length: int
    label: int
    width: int
    height: int
    crc32: int
    key: str
    notes: int
    extension: str
    json_length: int


class SampleWriter:
    """Adds samples to a tar and remembers where they are."""

    def __init__(self, tar: TarWriter, *, with_crc32: bool) -> None:
        self._tar = tar
        self._with_crc32 = with_crc32
        self._rows: list[_Row] = []

    def add(
        self, key: str, label: int, image: Recoded, *, extension: str, json: bytes = b""
    ) -> None:
        """Append the members of one sample; `json` only if there is any."""
        data, header, notes = image
        name = key.encode()
        more = label_members(label).blocks(name)
        if json:
            more += tar_header(name + b".json", len(json)) + padded(json)
        offset = self._tar.append(b"%b.%b" % (name, extension.encode()), data, more)
        crc32 = zlib_ng.crc32(data) if self._with_crc32 else 0
        self._rows.append(
            _Row(
                offset,
                len(data),
                label,
                header.width,
                header.height,
                crc32,
                key,
                int(notes),
                extension,
                len(json),
            )
        )

    def table(self, shard: int) -> pa.Table:
        """Return the piece of the index, `PIECE_SCHEMA`."""
        columns = {
            name: [shard] * len(self._rows)
            if name == "shard"
            else [getattr(row, name) for row in self._rows]
            for name in PIECE_SCHEMA.names
        }
        return pa.table(columns, schema=PIECE_SCHEMA)

    def dali_index(self) -> bytes:
        """Return the text that `wds2idx` would make of the tar."""
        lines = [f"{DALI_INDEX_VERSION} {len(self._rows)}", *map(_dali_line, self._rows), ""]
        return "\n".join(lines).encode()


def _dali_line(row: _Row) -> str:
    line = dali_line(row.key, row.extension, row.offset, row.length, row.label)
    if row.json_length:
        json = row.offset + row.length + -row.length % BLOCK + _LABELS_BYTES + BLOCK
        line += f" json {json} {row.json_length} {row.key}.json"
    return line


@lru_cache(maxsize=4096)
def label_members(label: int) -> FixedMembers:
    """Return the members KEY.cls and KEY.i4 of a sample, which follow its image."""
    return FixedMembers(((b".cls", b"%d" % label), (b".i4", struct.pack("<i", label))))
