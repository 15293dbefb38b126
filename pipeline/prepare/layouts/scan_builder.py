"""Collects what a layout holds, in any order, and makes a `Scan` of it."""

import os
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import Problem
from pipeline.formats.scan import ByteReader, Scan

_BLOCK = 20_000
_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("location", pa.binary()),
        ("label", pa.int32()),
        ("size", pa.int64()),
        ("stamp", pa.int64()),
    ]
)
_Row = tuple[str, bytes, int, int, int]


class ScanBuilder:
    """Entries of a split. `problems` and `ignored` become those of the scan."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.ignored: Counter[str] = Counter()
        self._rows: list[_Row] = []
        self._batches: list[pa.RecordBatch] = []

    def add(self, key: str, location: str, *, label: int, size: int, stamp: int) -> None:
        """Add an entry, or a problem if the file is empty."""
        if size == 0:
            self.report("empty file", location, "0 bytes")
            return
        self._rows.append((key, os.fsencode(location), label, size, stamp))
        if len(self._rows) == _BLOCK:  # objects take five times the memory of arrays
            self._flush()

    def report(self, kind: str, where: str, detail: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(kind, where, detail))

    def scan(self, classes: tuple[str, ...], reader: ByteReader) -> Scan:
        """Return the entries in canonical order; two with one key, and empty classes, are problems.

        Args:
            classes: names of the classes; labels are positions in it.
            reader: of the locations that were added.
        """
        self._flush()
        table = pa.Table.from_batches(self._batches, _SCHEMA)
        self._batches = []
        table = self._without_duplicates(table.sort_by([("key", "ascending")]).combine_chunks())
        table = table.sort_by([("label", "ascending"), ("key", "ascending")]).combine_chunks()
        label, size, stamp = (table.column(n).to_numpy() for n in ("label", "size", "stamp"))
        counts = np.bincount(label, minlength=len(classes))
        for empty in np.flatnonzero(counts == 0):
            self.report("empty class", classes[empty], "no images in it")
        return Scan(
            classes=classes,
            keys=_one_chunk(table, "key"),
            locations=_one_chunk(table, "location"),
            labels=label,
            sizes=size,
            stamps=stamp,
            reader=reader,
            problems=tuple(self.problems),
            ignored=dict(sorted(self.ignored.items())),
        )

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(_SCHEMA)
        arrays = [pa.array(column, f.type) for column, f in zip(columns, _SCHEMA, strict=True)]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))
        self._rows = []

    def _without_duplicates(self, table: pa.Table) -> pa.Table:
        """Report entries of `table`, sorted by key, whose key another one has."""
        keys = table.column("key")
        if len(keys) < 2:
            return table
        neighbours = [keys.slice(1), keys.slice(0, len(keys) - 1)]
        same = pc.call_function("equal", neighbours).to_numpy()
        for row in np.flatnonzero(same).tolist():
            place, other = (
                os.fsdecode(table.column("location")[i].as_py()) for i in (row + 1, row)
            )
            self.report("same key", place, f"its key, {keys[row].as_py()}, is also that of {other}")
        return table.filter(pa.array(np.concatenate(([True], ~same))))


def _one_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
