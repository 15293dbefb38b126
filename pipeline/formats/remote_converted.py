"""Shards at a URL as the input of a conversion: each image is a request for its bytes.

A new conversion takes images from all shards in turn, so neither whole shards nor a cache would do.
"""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from zlib_ng import zlib_ng

from pipeline.errors import DataError, UnusableImageError
from pipeline.formats.converted import checked_keys
from pipeline.formats.dali_index import extensions_by_offset
from pipeline.formats.index import Index, read_index
from pipeline.formats.scan import REQUESTS_AT_ONCE, ByteReader, Scan, reading_ahead
from pipeline.formats.shard_folder import INDEX_NAME
from pipeline.storage.remote import RemoteFolder


@dataclass(frozen=True)
class RemoteMemberReader:
    """Reads samples of remote shards; a location is `SHARD:OFFSET:LENGTH:CRC/KEY.EXTENSION`."""

    remote: RemoteFolder
    has_checksums: bool

    def read(self, location: str) -> bytes:
        """Return the encoded image.

        Raises:
            UnusableImageError: if its checksum does not hold.
            OSError: if its shard is not there.
            StorageError: if the service fails.
        """
        shard, offset, length, crc32 = location.partition("/")[0].split(":")
        start = int(offset)
        data = self.remote.read_range(shard, start, start + int(length))
        if self.has_checksums and zlib_ng.crc32(data) != int(crc32):
            raise UnusableImageError("damaged", f"{self.describe(location)}: its checksum fails")
        return data

    def describe(self, location: str) -> str:
        """Return the URL of the shard, and key and offset."""
        place, _, name = location.partition("/")
        shard, offset, _, _ = place.split(":")
        return f"{self.remote.locate(shard)}: {name} at byte {offset}"

    def ahead(self, locations: Sequence[str]) -> AbstractContextManager[ByteReader]:
        """Return a reader that has several requests under way."""
        return reading_ahead(self, locations)


def scan_remote_shards(remote: RemoteFolder) -> Scan:
    """List the samples of a remote folder of shards.

    Raises:
        DataError: if the index is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, INDEX_NAME).write_bytes(remote.read(INDEX_NAME))
        index = read_index(Path(folder))
    where = remote.locate(INDEX_NAME)
    keys = checked_keys(index.table.column("key").chunk(0), where)
    return Scan(
        classes=index.classes,
        keys=keys,
        locations=_locations(remote, index),
        labels=index.column("label").astype(np.int32),
        sizes=index.column("length").astype(np.int64),
        stamps=index.column("crc32").astype(np.int64),
        reader=RemoteMemberReader(remote, index.has_checksums),
    )


def _locations(remote: RemoteFolder, index: Index) -> pa.BinaryArray:
    """Return where each sample lies; extensions come from the indexes that are made for DALI."""
    shards, keys = index.column("shard"), index.table.column("key").chunk(0)
    offsets, lengths, crc32s = map(index.column, ("offset", "length", "crc32"))
    names = [Path(shard.name).with_suffix(".idx").name for shard in index.shards]
    locations = [b""] * len(shards)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        for number, content in enumerate(pool.map(remote.read, names)):
            extensions = extensions_by_offset(content)
            for row in np.flatnonzero(shards == number).tolist():
                offset = int(offsets[row])
                if offset not in extensions:
                    raise DataError(
                        f"{remote.locate(names[number])}: damaged: it does not have the image at"
                        f" byte {offset} of its shard; store it again, or convert from a copy that"
                        " tools/check_data.py finds sound"
                    )
                place = f"{index.shards[number].name}:{offset}:{lengths[row]}:{crc32s[row]}"
                locations[row] = f"{place}/{keys[row]}.{extensions[offset]}".encode()
    return pa.array(locations, pa.binary())
