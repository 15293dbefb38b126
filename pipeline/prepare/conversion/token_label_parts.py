"""Several processes, on one machine or many, that make the label maps of one split.

Batch b of the split belongs to part b mod n, and each part writes a file of its own; joined, they
are the file that one process would have written: images are seen in the same batches.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, OutputError
from pipeline.formats.source import Source
from pipeline.formats.token_label_file import (
    LabelHeader,
    labels_sha256,
    read_header,
    record_crc32,
)
from pipeline.prepare.conversion.parts import WHOLE, Part
from pipeline.prepare.writers.token_label_writer import TokenLabelWriter
from pipeline.storage.bounded_file import BoundedFile
from pipeline.storage.files import PART_SUFFIX
from pipeline.storage.locks import locked

_OF = "-of-"


def part_file(path: Path, part: Part) -> Path:
    """Return where `part` of the file at `path` is written."""
    which = "" if part == WHOLE else f".{part.number}{_OF}{part.count}"
    return path.with_name(f"{path.name}{which}{PART_SUFFIX}")


def lock_of(path: Path, part: Part) -> Path:
    """Return the file that whoever writes `part` locks."""
    return path.with_name(f".{part_file(path, part).name.removesuffix(PART_SUFFIX)}.lock")


def samples_of(part: Part, samples: int, batch_size: int) -> NDArray[np.int64]:
    """Return the samples of a part, of `samples` in all, in their order."""
    numbers = np.arange(samples)
    return numbers[numbers // batch_size % part.count == part.number]


def merge(path: Path, source: Source, batch_size: int, advance: Callable[[int], None]) -> None:
    """Join the parts of the file at `path`, and remove them.

    Args:
        path: of the complete file.
        source: the images.
        batch_size: that the parts were made with.
        advance: is told how many maps have been joined.

    Raises:
        DataError: naming a part that is missing, not complete, or of other images.
        OutputError: if another process writes there.
    """
    count = _count(path)
    parts = [Part(number, count) for number in range(count)]
    files = [_PartFile(part_file(path, part), part, batch_size) for part in parts]
    header = files[0].header
    for file in files:
        file.check(header, source)
    refusal = f"{path}: another process writes it; wait for that one"
    with locked(lock_of(path, WHOLE), refusal):
        writer = TokenLabelWriter(part_file(path, WHOLE), header, np.arange(header.samples))
        try:
            first = writer.done // batch_size
            writer.keep(first * batch_size)
            advance(writer.done)
            for number in range(first, -(-header.samples // batch_size)):
                records = files[number % count].batch(number // count)
                writer.append(records)
                advance(len(records))
            writer.complete(path)
        finally:
            writer.close()
    for part in parts:
        part_file(path, part).unlink()
    for part in (WHOLE, *parts):
        with suppress(FileNotFoundError):
            lock_of(path, part).unlink()


def _count(path: Path) -> int:
    """In how many parts the file is written, by the names of those that are there."""
    pattern = re.compile(rf"{re.escape(path.name)}\.\d+{_OF}(\d+){re.escape(PART_SUFFIX)}")
    found = map(pattern.fullmatch, (file.name for file in path.parent.iterdir()))
    counts = sorted({int(match[1]) for match in found if match})
    if not counts:
        raise DataError(f"{path}: no part of it is here; write them with --part I/N first")
    if len(counts) > 1:
        raise OutputError(
            f"{path}: there are parts of {' and of '.join(map(str, counts))}; delete those of the"
            " division that is not wanted"
        )
    return counts[0]


class _PartFile:
    """A part that should be complete."""

    def __init__(self, path: Path, part: Part, batch_size: int) -> None:
        """Open it. Raises DataError if it is not there."""
        again = f"run --part {part} again, with the same --batch-size as the others"
        if not path.exists():
            raise DataError(f"{path}: this part is missing; {again}")
        with path.open("rb") as file:
            self.header, _ = read_header(path, file)
        self._path, self._again, self._batch_size = path, again, batch_size
        self._samples = samples_of(part, self.header.samples, batch_size)
        self._file = BoundedFile.open(path)

    def check(self, header: LabelHeader, source: Source) -> None:
        """See that it is complete, of the same annotator as another part, and of these images."""
        if self.header != header:
            raise DataError(
                f"{self._path}: was made by another annotator, or with other options, than the"
                f" first part; delete one of them and make it again"
            )
        if (len(source), labels_sha256(source)) != (header.samples, header.labels_sha256):
            raise DataError(
                f"{self._path}: holds maps of other images; delete it, and {self._again}"
            )
        size = header.record.itemsize
        there = (self._path.stat().st_size - header.start) // size
        if there != len(self._samples):
            raise DataError(
                f"{self._path}: has {there} maps of {len(self._samples)}; {self._again}"
            )

    def batch(self, number: int) -> NDArray[np.void]:
        """Return the records of its batch `number`, each checked."""
        kind = self.header.record
        samples = self._samples[number * self._batch_size :][: self._batch_size]
        place = self.header.start + number * self._batch_size * kind.itemsize
        records = self._file.read(place, len(samples) * kind.itemsize).view(kind)
        for sample, record in zip(samples.tolist(), records, strict=True):
            if record["crc32"] != record_crc32(record, sample):
                raise DataError(
                    f"{self._path}: the map of sample {sample} is damaged, or was made with another"
                    f" --batch-size; {self._again}"
                )
        return records
