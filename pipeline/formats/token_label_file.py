"""A file of label maps: the best classes of an annotator at each place of each image of a split.

All images have maps of one shape, so that sample i is record i, whatever was read before. Records
are copied out of the file, which all processes of a machine find in its page cache: a map in memory
would end them without a word if the file were cut off. Each record has its own checksum, which
starts from its number, and knows its image by a hash of the key. docs/token_labels.md has the
layout; `pipeline.prepare.writers.token_label_writer` writes it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from pipeline.errors import DataError
from pipeline.formats.source import Source
from pipeline.storage.bounded_file import BoundedFile

MAGIC = b"MSTOKLB1"
SUFFIX = ".token_labels"
_ALIGNMENT = 64
_MAX_HEADER = 2**28
_PREFIX = np.dtype(
    [("magic", "S8"), ("length", "<u4"), ("header_crc32", "<u4"), ("records_crc32", "<u4")]
)
"""The last number is over the records' checksums, and 0 until the last record is there."""
REMEDY = "make it again with tools/make_token_labels.py"
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
                self.header, checksum = read_header(path, file)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; {REMEDY}") from error
        header = self.header
        expected = header.start + header.samples * header.record.itemsize
        if (size := path.stat().st_size) != expected:
            raise DataError(
                f"{path}: is {size} bytes long, and {header.samples} maps take {expected}; copy it"
                f" again, or {REMEDY}"
            )
        self.fingerprint = f"{zlib_ng.crc32(header.text):08x}{checksum:08x}"
        self._file = BoundedFile.open(path)
        self._record = header.record

    def read(self, samples: NDArray[np.int64]) -> NDArray[np.void]:
        """Return the records of `samples`, with fields `key`, `classes` and `logits`.

        Raises:
            DataError: if one is damaged, or not there any more.
        """
        size, start = self._record.itemsize, self.header.start
        records = np.empty(len(samples), self._record)
        for place, sample in enumerate(samples.tolist()):
            records[place] = self._file.read(start + sample * size, size).view(self._record)[0]
            if records[place]["crc32"] != record_crc32(records[place], sample):
                raise DataError(
                    f"{self.path}: the map of sample {sample} is damaged: its checksum does not"
                    f" hold; copy the file again, or {REMEDY}"
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
                f" with their labels; {REMEDY} from the data that is trained on"
            )

    def check_keys(self, records: NDArray[np.void], keys: Sequence[str]) -> None:
        """See that `records` are of the images with these `keys`.

        Raises:
            DataError: naming one that is of another image.
        """
        for record, key in zip(records, keys, strict=True):
            if record["key"] != key_hash(key):
                raise DataError(
                    f"{self.path}: the map that should be of {key} is of another image; {REMEDY}"
                    " from the data that is trained on"
                )


def record_crc32(record: np.void, number: int) -> int:
    """The checksum of a record that stands for sample `number`."""
    return zlib_ng.crc32(record.tobytes()[4:], number + 1)


def read_header(path: Path, file: BinaryIO) -> tuple[LabelHeader, int]:
    """What a file, complete or not, says of itself, and the checksum of its checksums, or 0.

    Raises:
        DataError: if it is no such file, or damaged there.
    """
    prefix = np.frombuffer(file.read(_PREFIX.itemsize).ljust(_PREFIX.itemsize, b"\0"), _PREFIX)[0]
    if prefix["magic"] != MAGIC or prefix["length"] > _MAX_HEADER:
        raise DataError(f"{path}: not a file of token labels; {REMEDY}")
    text = file.read(int(prefix["length"]))
    if zlib_ng.crc32(text) != prefix["header_crc32"]:
        raise DataError(f"{path}: damaged: the checksum of its header does not hold; {REMEDY}")
    said = json.loads(text)
    said |= {"classes": tuple(said["classes"]), "grid": tuple(said["grid"])}
    return LabelHeader(**said), int(prefix["records_crc32"])
