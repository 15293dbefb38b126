"""Writing a file of label maps, so that whoever is killed can be followed by another.

What is not complete has the format of the file, under another name, and the records of some samples
only: all of them, or those of a part. As each record's checksum starts from its sample's number,
what a killed process left is checked record by record, and continued at the last good one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from pipeline.errors import OutputError
from pipeline.formats.token_label_file import LabelHeader, key_hash, record_crc32
from pipeline.storage.files import sync


class TokenLabelWriter:
    """Writes a file record by record, under the name of a file that is not complete.

    Attributes:
        done: records that are written.
    """

    def __init__(self, part: Path, header: LabelHeader, samples: NDArray[np.int64]) -> None:
        """Begin, or continue what an earlier process left.

        Args:
            part: the file that is not complete.
            header: of the complete file.
            samples: whose maps go there, in this order.

        Raises:
            OutputError: if what was left is of other images or another annotator.
        """
        self.done = 0
        self._part, self._header, self._samples = part, header, samples
        self._checksums = np.zeros(len(samples), "<u4")
        beginning = header.beginning(0)
        if part.exists() and part.stat().st_size >= len(beginning):
            with part.open("rb") as file:
                if file.read(len(beginning)) != beginning:
                    raise OutputError(
                        f"{part}: was begun with another annotator, view or data; go on with"
                        " those, or delete it"
                    )
                self._count_done(file)
        else:
            part.write_bytes(beginning)
        self._file = part.open("r+b")
        self.keep(self.done)

    def _count_done(self, file: BinaryIO) -> None:
        """Count the good records from the first on; the file stands behind the header."""
        kind = self._header.record
        for number in self._samples.tolist():
            if len(data := file.read(kind.itemsize)) < kind.itemsize:
                break
            record = np.frombuffer(data, kind)[0]
            if record["crc32"] != record_crc32(record, number):
                break
            self._checksums[self.done] = record["crc32"]
            self.done += 1

    def keep(self, count: int) -> None:
        """Go back to the first `count` records."""
        self.done = count
        end = self._header.start + count * self._header.record.itemsize
        self._file.truncate(end)
        self._file.seek(end)

    def add(
        self, keys: Sequence[str], classes: NDArray[np.integer], logits: NDArray[np.floating]
    ) -> None:
        """Append the maps of the next samples: (B, top, H, W) classes and logits."""
        records = np.zeros(len(keys), self._header.record)
        records["key"] = [key_hash(key) for key in keys]
        records["classes"], records["logits"] = classes, logits
        numbers = self._samples[self.done : self.done + len(keys)].tolist()
        for record, number in zip(records, numbers, strict=True):
            record["crc32"] = record_crc32(record, number)
        self.append(records)

    def append(self, records: NDArray[np.void]) -> None:
        """Append records of the next samples as they are stored."""
        self._checksums[self.done : self.done + len(records)] = records["crc32"]
        self.done += len(records)
        self._file.write(records.tobytes())
        self._file.flush()

    def complete(self, path: Path) -> Path:
        """Give the file its name, once the records of all samples are there."""
        assert self.done == self._header.samples
        self._file.seek(0)
        self._file.write(self._header.beginning(zlib_ng.crc32(self._checksums.tobytes())))
        self.close()
        self._part.replace(path)
        sync(path.parent)
        return path

    def close(self) -> None:
        """Leave what is done, safe on the disk, for another process to go on with."""
        if not self._file.closed:
            self._file.close()
            sync(self._part)
