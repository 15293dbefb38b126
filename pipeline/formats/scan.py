"""The list of what a data set holds: an entry for each image, with names and sizes only.

Every layout (class folders, archives, lists) yields a `Scan`; all that follows, from the plan to
the shards, knows only this. Entries are arrays, not objects: 1.3 million take some 100 MB. They are
in canonical order, by label and then key, so that entry i is sample i.

A `Scan` and a `Source` are one list seen twice: what is to be stored, by location, and what can be
trained from, by index. `class_folders` makes both of the same folders; `prepare.layouts.converted`
makes a scan of a source.
"""

import hashlib
import os
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import Problem

REQUESTS_AT_ONCE = 16


class ByteReader(Protocol):
    """How a layout's bytes are fetched. Picklable, and used in several processes and threads."""

    def read(self, location: str) -> bytes:
        """Return the encoded image at `location`.

        Raises:
            OSError: if it cannot be read.
        """
        ...

    def describe(self, location: str) -> str:
        """Where that is, for messages."""
        ...


@runtime_checkable
class AheadReader(ByteReader, Protocol):
    """A reader with long delays, which fetches what comes next while others are waited for."""

    def ahead(self, locations: Sequence[str]) -> AbstractContextManager[ByteReader]:
        """Return a reader of `locations`, each once, in this order."""
        ...


class SourceFacts(TypedDict):
    """What the shards were made from."""

    fingerprint: str
    images: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The entries of one split in canonical order, and what was found beside them.

    Attributes:
        classes: class names; the position is the label.
        keys: (N,) strings, unique.
        locations: (N,) binary, what `reader` understands, as the file system encodes names.
        labels: (N,) int32.
        sizes: (N,) int64, bytes of the encoded image.
        stamps: (N,) int64, changes when the file changes (its modification time).
        problems: what cannot be used; these files have no entry.
        ignored: files that are no images by name -> how many, by extension or name.
        blocks: (N,) which of the pieces, from 0, that the reader decodes as a whole has the entry;
            None: any entry is as near as any other.
        has_exact_sizes: whether `sizes` are more than estimates.
    """

    classes: tuple[str, ...]
    keys: pa.StringArray
    locations: pa.BinaryArray
    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]
    stamps: NDArray[np.int64]
    reader: ByteReader
    problems: tuple[Problem, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)
    blocks: NDArray[np.int64] | None = None
    has_exact_sizes: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def location(self, entry: int) -> str:
        """Return the location of one entry, in the form that `reader` takes."""
        return os.fsdecode(self.locations[entry].as_py())

    @cached_property
    def facts(self) -> SourceFacts:
        """What identifies the input of a conversion: names, labels and sizes, not times."""
        digest = hashlib.sha256()
        for column in (self.keys, self.locations):
            for buffer in column.buffers()[1:]:
                digest.update(buffer or b"")
        digest.update(self.labels.tobytes())
        digest.update(self.sizes.tobytes())
        digest.update("\0".join(self.classes).encode(errors="surrogateescape"))
        return SourceFacts(
            fingerprint=digest.hexdigest(), images=len(self), bytes=int(self.sizes.sum())
        )


class TextColumn:
    """Collects byte strings; `take` gives them as an Arrow array, without a copy."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("i", [0])

    def extend(self, texts: Iterable[bytes]) -> None:
        """Append `texts`."""
        for text in texts:
            self._data += text
            self._ends.append(len(self._data))

    def take(self, kind: pa.DataType) -> pa.Array:
        """Return what was collected, of `kind` string or binary; the column must not grow after."""
        offsets, data = pa.py_buffer(self._ends), pa.py_buffer(self._data)
        return pa.Array.from_buffers(kind, len(self._ends) - 1, [None, offsets, data])


@contextmanager
def reading_ahead(reader: ByteReader, locations: Sequence[str]) -> Iterator[ByteReader]:
    """Return a reader of `locations`, each once, in this order, which fetches some ahead."""
    ahead = _ReaderAhead(reader, locations)
    try:
        yield ahead
    finally:
        ahead.close()


class _ReaderAhead:
    def __init__(self, reader: ByteReader, locations: Sequence[str]) -> None:
        self._reader = reader
        self._rest = iter(locations)
        self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE)
        self._pending: deque[tuple[str, Future[bytes]]] = deque()
        self._submit(2 * REQUESTS_AT_ONCE)

    def read(self, location: str) -> bytes:
        expected, future = self._pending.popleft()
        assert location == expected, "locations are read in the order that was announced"
        self._submit(1)
        return future.result()

    def describe(self, location: str) -> str:
        return self._reader.describe(location)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, count: int) -> None:
        for location in islice(self._rest, count):
            self._pending.append((location, self._pool.submit(self._reader.read, location)))
