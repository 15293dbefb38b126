"""Data that was converted before, shards or an FFCV file, as the input of another conversion.

Keys, labels and the bytes of encoded images stay. Raw pixels become PNGs without compression.
"""

import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from zlib_ng import zlib_ng

from pipeline.errors import DataError, UnusableImageError
from pipeline.formats.dali_index import extensions_by_offset
from pipeline.formats.ffcv_source import FfcvSource
from pipeline.formats.index import Index, read_index
from pipeline.formats.scan import REQUESTS_AT_ONCE, ByteReader, Scan, reading_ahead
from pipeline.formats.shard_folder import INDEX_NAME
from pipeline.formats.shard_source import ShardSource
from pipeline.images.names import MAX_KEY_BYTES, first_unsafe, member_extension
from pipeline.images.pixels import encode_png, png_size
from pipeline.storage.remote import RemoteFolder
from pipeline.storage.tar_reader import member_name


@dataclass(frozen=True)
class SourceReader:
    """Reads samples of the source at `path`; a location is `INDEX/KEY.EXTENSION`."""

    path: str
    classes: tuple[str, ...] = ()

    def read(self, location: str) -> bytes:
        """Return the encoded image.

        Raises:
            UnusableImageError: if the source says that it is damaged.
        """
        try:
            [sample] = self._source().read_many([_index_in(location)])
        except DataError as error:
            raise UnusableImageError("damaged", str(error)) from error
        return encode_png(sample.data) if sample.data.ndim == 3 else sample.data.tobytes()

    def describe(self, location: str) -> str:
        """Return what the source says of it."""
        return self._source().describe(_index_in(location))

    def _source(self) -> ShardSource | FfcvSource:
        """Return the source, which is opened once in each process."""
        with _lock:
            if self not in _opened:
                path = Path(self.path)
                is_ffcv = path.suffix == ".beton"
                _opened[self] = (
                    FfcvSource(path, self.classes or None) if is_ffcv else ShardSource(path)
                )
            return _opened[self]


_opened: dict[SourceReader, ShardSource | FfcvSource] = {}
_lock = threading.Lock()


def scan_shards(folder: Path) -> Scan:
    """List the samples of a folder of shards.

    Raises:
        DataError: if a shard is missing or cut off, or the index is damaged.
    """
    ShardSource(folder)  # it sees that all is there
    index = read_index(folder)
    keys = checked_keys(index.table.column("key").chunk(0), folder / INDEX_NAME)
    return Scan(
        classes=index.classes,
        keys=keys,
        locations=_locations(keys, _extensions(folder, index)),
        labels=index.column("label").astype(np.int32),
        sizes=index.column("length").astype(np.int64),
        stamps=index.column("crc32").astype(np.int64),
        reader=SourceReader(str(folder)),
    )


def scan_ffcv(path: Path, classes: tuple[str, ...] | None = None) -> Scan:
    """List the samples of an FFCV file.

    Args:
        path: of the file.
        classes: their names, for a file made by others.

    Raises:
        DataError: if the file is damaged.
    """
    source = FfcvSource(path, classes)
    checked_keys(source.keys, path)
    png_sizes = np.array([png_size(h, w) for h, w in source.shapes.tolist()], np.int64)
    return Scan(
        classes=source.classes,
        keys=source.keys,
        locations=_locations(source.keys, ["png" if raw else "jpg" for raw in source.is_raw]),
        labels=source.labels.astype(np.int32),
        sizes=np.where(source.is_raw, png_sizes, source.lengths),
        stamps=np.full(len(source), path.stat().st_mtime_ns, np.int64),
        reader=SourceReader(str(path), classes or ()),
    )


def checked_keys(keys: pa.StringArray, where: object) -> pa.StringArray:
    """Return `keys`, of the index at `where`, if they can be names in a tar and paths of files.

    Raises:
        DataError: if not.
    """
    if (unsafe := first_unsafe(keys.to_pylist())) is not None:
        raise DataError(
            f"{where}: {unsafe!r} cannot be a key: it is no relative path without dots and blanks"
            f" of at most {MAX_KEY_BYTES} bytes; make_shards writes no such key"
        )
    return keys


def _index_in(location: str) -> int:
    return int(location.partition("/")[0])


def _locations(keys: pa.StringArray, extensions: list[str]) -> pa.BinaryArray:
    places = zip(keys.to_pylist(), extensions, strict=True)
    return pa.array([f"{i}/{key}.{ext}".encode() for i, (key, ext) in enumerate(places)])


def _extensions(folder: Path, index: Index) -> list[str]:
    """Return the extension of each sample's image, from its name in the tar."""
    shards, offsets = index.column("shard"), index.column("offset")
    extensions = [""] * len(shards)
    for number, shard in enumerate(index.shards):
        with (folder / shard.name).open("rb") as file:
            for row in np.flatnonzero(shards == number).tolist():
                name = member_name(file.fileno(), int(offsets[row]))
                extensions[row] = member_extension(name)
    return extensions


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
        locations=_remote_locations(remote, index),
        labels=index.column("label").astype(np.int32),
        sizes=index.column("length").astype(np.int64),
        stamps=index.column("crc32").astype(np.int64),
        reader=RemoteMemberReader(remote, index.has_checksums),
    )


def _remote_locations(remote: RemoteFolder, index: Index) -> pa.BinaryArray:
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
