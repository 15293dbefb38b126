"""A file of label maps: the best classes of an annotator at each place of each image of a split.

All images have maps of one shape, so that sample i is record i, whatever was read before: the file
is mapped into memory and shared by the processes of a machine. Each record has its own checksum,
which starts from its number, and knows its image by a hash of the key. docs/token_labels.md has the
layout. A file that is being written is continued at its last good record.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from pipeline.errors import DataError, OutputError
from pipeline.formats.source import Sample, Source
from pipeline.storage.files import PART_SUFFIX, sync

MAGIC = b"MSTOKLB1"
SUFFIX = ".token_labels"
_ALIGNMENT = 64
_MAX_HEADER = 2**28
_PREFIX = np.dtype(
    [("magic", "S8"), ("length", "<u4"), ("header_crc32", "<u4"), ("records_crc32", "<u4")]
)
"""The last number is over the records' checksums, and 0 until the last record is there."""
_REMEDY = "make it again with tools/make_token_labels.py"
View = Literal["whole", "centre"]


@dataclass(frozen=True, kw_only=True)
class LabelHeader:
    """What the maps are of.

    Attributes:
        classes: names of the data's classes; maps hold their positions.
        samples: images of the split.
        labels_sha256: of their labels, int32.
        top: classes of each place.
        grid: rows and columns of a map.
        view: what the annotator saw of each image: the whole, or its central square.
        annotator: what made the maps, for people.
    """

    classes: tuple[str, ...]
    samples: int
    labels_sha256: str
    top: int
    grid: tuple[int, int]
    view: View
    annotator: str

    @property
    def record(self) -> np.dtype:
        """The type of a record."""
        kind = "<u2" if len(self.classes) <= 2**16 else "<i4"
        shape = (self.top, *self.grid)
        columns = [("classes", kind, shape), ("logits", "<f2", shape)]
        return np.dtype([("crc32", "<u4"), ("key", "<u8"), *columns])

    @property
    def text(self) -> bytes:
        """The header as it is stored, in JSON."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @property
    def start(self) -> int:
        """Offset of the first record."""
        return -(-(_PREFIX.itemsize + len(self.text)) // _ALIGNMENT) * _ALIGNMENT

    def beginning(self, records_crc32: int) -> bytes:
        """All that comes before the first record."""
        text = self.text
        prefix = np.array((MAGIC, len(text), zlib_ng.crc32(text), records_crc32), _PREFIX)
        return (prefix.tobytes() + text).ljust(self.start, b"\0")


def labels_sha256(source: Source) -> str:
    """The hash of a split's labels by which a file knows it."""
    return hashlib.sha256(np.asarray(source.labels, "<i4").tobytes()).hexdigest()


def key_hash(key: str) -> int:
    """64 bits by which a record knows its image."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class TokenLabelFile:
    """The maps of a split. Safe to read from several threads.

    Attributes:
        path: of the file.
        header: what it holds.
        fingerprint: changes with every byte of it.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            DataError: if it is not one, not whole, or damaged in front of the records.
        """
        self.path = path
        try:
            with path.open("rb") as file:
                self.header, checksum = _read_header(path, file)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; {_REMEDY}") from error
        header = self.header
        expected = header.start + header.samples * header.record.itemsize
        if (size := path.stat().st_size) != expected:
            raise DataError(
                f"{path}: is {size} bytes long, and {header.samples} maps take {expected}; copy it"
                f" again, or {_REMEDY}"
            )
        self.fingerprint = f"{zlib_ng.crc32(header.text):08x}{checksum:08x}"
        self._records = np.memmap(path, header.record, "r", header.start, (header.samples,))

    def read(self, samples: NDArray[np.int64]) -> NDArray[np.void]:
        """Return the records of `samples`, with fields `key`, `classes` and `logits`.

        Raises:
            DataError: if one is damaged.
        """
        records = np.asarray(self._records[samples])
        for sample, record in zip(samples.tolist(), records, strict=True):
            if record["crc32"] != _checksum(record, sample):
                raise DataError(
                    f"{self.path}: the map of sample {sample} is damaged: its checksum does not"
                    f" hold; copy the file again, or {_REMEDY}"
                )
        return records

    def check_source(self, source: Source) -> None:
        """See that the maps are of these images.

        Raises:
            DataError: if they are of others.
        """
        header = self.header
        mine = (len(source), source.classes, labels_sha256(source))
        if mine != (header.samples, header.classes, header.labels_sha256):
            raise DataError(
                f"{self.path}: holds maps of {header.samples} images of {len(header.classes)}"
                f" classes, and not of these {len(source)} images of {len(source.classes)} classes"
                f" with their labels; {_REMEDY} from the data that is trained on"
            )

    def check_sample(self, index: int, sample: Sample) -> None:
        """See that record `index` is of `sample`.

        Raises:
            DataError: if it is of another one.
        """
        if self._records["key"][index] != key_hash(sample.key):
            raise DataError(
                f"{self.path}: map {index} is of another image than {sample.key}; {_REMEDY} from"
                " the data that is trained on"
            )


class TokenLabelWriter:
    """Writes a file record by record, under another name until all are there.

    Attributes:
        done: records that are written.
    """

    def __init__(self, path: Path, header: LabelHeader) -> None:
        """Begin, or continue what an earlier process left.

        Raises:
            OutputError: if what was left is of other images or another annotator.
        """
        self.done = 0
        self._path, self._header = path, header
        self._part = path.with_name(path.name + PART_SUFFIX)
        self._checksums = np.zeros(header.samples, "<u4")
        beginning = header.beginning(0)
        if self._part.exists() and self._part.stat().st_size >= len(beginning):
            with self._part.open("rb") as file:
                if file.read(len(beginning)) != beginning:
                    raise OutputError(
                        f"{self._part}: was begun with another annotator, view or data; go on with"
                        " those, or delete it"
                    )
                self._count_done(file)
        else:
            self._part.write_bytes(beginning)
        self._file = self._part.open("r+b")
        self.keep(self.done)

    def _count_done(self, file: BinaryIO) -> None:
        """Count the good records from the first on; the file stands behind the header."""
        kind = self._header.record
        while len(data := file.read(kind.itemsize)) == kind.itemsize:
            record = np.frombuffer(data, kind)[0]
            checksum = _checksum(record, self.done)
            if self.done == self._header.samples or record["crc32"] != checksum:
                break
            self._checksums[self.done] = checksum
            self.done += 1

    def keep(self, count: int) -> None:
        """Go back to the first `count` records."""
        self.done = count
        end = self._header.start + count * self._header.record.itemsize
        self._file.truncate(end)
        self._file.seek(end)

    def add(
        self,
        keys: list[str],
        classes: NDArray[np.integer],
        logits: NDArray[np.floating],
    ) -> None:
        """Append the maps of the next samples: (B, top, H, W) classes and logits."""
        records = np.zeros(len(keys), self._header.record)
        records["key"] = [key_hash(key) for key in keys]
        records["classes"], records["logits"] = classes, logits
        for record in records:
            record["crc32"] = self._checksums[self.done] = _checksum(record, self.done)
            self.done += 1
        self._file.write(records.tobytes())
        self._file.flush()

    def finish(self) -> Path:
        """Give the file its name, once all records are there."""
        assert self.done == self._header.samples
        self._file.seek(0)
        self._file.write(self._header.beginning(zlib_ng.crc32(self._checksums.tobytes())))
        self.close()
        sync(self._part)
        self._part.replace(self._path)
        sync(self._path.parent)
        return self._path

    def close(self) -> None:
        """Leave what is done for another process to go on with."""
        self._file.close()


def _checksum(record: np.void, number: int) -> int:
    return zlib_ng.crc32(record.tobytes()[4:], number + 1)


def _read_header(path: Path, file: BinaryIO) -> tuple[LabelHeader, int]:
    prefix = np.frombuffer(file.read(_PREFIX.itemsize).ljust(_PREFIX.itemsize, b"\0"), _PREFIX)[0]
    if prefix["magic"] != MAGIC or prefix["length"] > _MAX_HEADER:
        raise DataError(f"{path}: not a file of token labels; {_REMEDY}")
    text = file.read(int(prefix["length"]))
    if zlib_ng.crc32(text) != prefix["header_crc32"]:
        raise DataError(f"{path}: damaged: the checksum of its header does not hold; {_REMEDY}")
    said = json.loads(text)
    said |= {"classes": tuple(said["classes"]), "grid": tuple(said["grid"])}
    return LabelHeader(**said), int(prefix["records_crc32"])
