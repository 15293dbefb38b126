"""Parquet as Hugging Face exports data sets: a row for each image, with its bytes and its class.

    train-00000-of-00294.parquet, validation-00000-of-00014.parquet, ...    there or in data/;
    train/0000.parquet, validation/0000.parquet, ...                        the hub's own conversion

`val` is `validation`, or `test` where there is none. Listing reads classes and names, not images,
so sizes are estimates from the files' footers. A key is CLASS/NAME where rows have names of files
that differ within a class; else the file and the row make it.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import DataError, UnusableImageError
from pipeline.formats.scan import Scan
from pipeline.formats.source import MAX_CLASSES
from pipeline.images.names import sample_key
from pipeline.prepare.layouts.parquet_columns import Columns, find_columns
from pipeline.prepare.layouts.row_groups import opened, read_image
from pipeline.prepare.layouts.scan_builder import ScanBuilder

_SPLIT_NAMES = {"train": ("train",), "val": ("validation", "valid", "val", "test")}
_COUNTED = re.compile(r"(.*-)(\d+)-of-(\d+)\.parquet")
_LOCATION = re.compile(r"(.*?\.parquet):group (\d+):row (\d+):", re.DOTALL)
_UNLABELLED = -1
_NULL = np.iinfo(np.int64).min
"""Stands for a label that is null."""
_LARGEST_BYTES = 2**31
_LFS = b"version https://git-lfs"
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class ParquetReader:
    """Reads images of files below `root`; a location is `FILE:group G:row R:NAME`."""

    root: str
    column: str
    stamps: tuple[tuple[str, int], ...]
    """Modification time of each file, in ns, when it was listed."""

    def read(self, location: str) -> bytes:
        """Return the bytes in the row.

        Raises:
            UnusableImageError: if there are none, or the row group is damaged.
        """
        file, group, row = _parts(location)
        path, stamp = Path(self.root, file), dict(self.stamps)[file]
        if path.stat().st_mtime_ns != stamp:
            raise UnusableImageError("changed since the scan", f"{file} was written anew")
        return read_image(path, stamp=stamp, group=group, row=row, column=self.column)

    def describe(self, location: str) -> str:
        """Return file, row group and row."""
        file, group, row = _parts(location)
        return f"{self.root}/{file}: row group {group}, row {row}"


def _parts(location: str) -> tuple[str, int, int]:
    match = _LOCATION.match(location)
    assert match, "made by _listed"
    return match[1], int(match[2]), int(match[3])


class _Group(NamedTuple):
    """What is listed of a row group."""

    file: Path
    number: int
    first_row: int
    size: int
    """Bytes of an image, on average."""
    labels: NDArray[np.int64]
    """(rows,)"""
    names: list[bytes]
    """Of the images' files, without folders; empty if there is none."""


def find_parquet(source: Path, split: str) -> list[Path]:
    """The files of `split` in `source`, in its `data`, or in a folder of the split's name."""
    for name in _SPLIT_NAMES[split]:
        for folder in (source, source / "data"):
            found = [*folder.glob(f"{name}-*.parquet"), *folder.glob(f"{name}.parquet")]
            if files := sorted(filter(Path.is_file, found)):
                return files
        if files := sorted(filter(Path.is_file, (source / name).glob("*.parquet"))):
            return files
    return []


def is_unlabelled(file: Path) -> bool:
    """Whether the rows of a file have no class, as in a test split whose classes are secret."""
    groups = _groups(file, _columns(file)._replace(has_paths=False))
    return all(group.labels.max(initial=_UNLABELLED) < 0 for group in groups)


def scan_parquet(
    source: Path,
    files: Sequence[Path],
    *,
    training: Sequence[Path],
    classes: Sequence[str] | None,
) -> Scan:
    """List the images of a split.

    Args:
        source: the folder.
        files: of the split.
        training: the files that say which classes there are, if `classes` does not.
        classes: their names; the position is the number in the files.

    Raises:
        DataError: if a file is damaged, missing or of another kind, or no row has a class.
    """
    _check_complete(files)
    columns = [_columns(file) for file in files]
    named = _columns(training[0])
    for file, found in zip(files, columns, strict=True):
        if found.image != columns[0].image or (not classes and found.classes != named.classes):
            raise DataError(
                f"{file}: its columns or names of classes are not those of {training[0].name};"
                " download both again, from one revision, or give --classes FILE"
            )
    groups = [
        group for file, found in zip(files, columns, strict=True) for group in _groups(file, found)
    ]
    names = tuple(classes or named.classes) or _numbered(training, named)
    labels = np.concatenate([np.zeros(0, np.int64), *(group.labels for group in groups)])
    if len(labels) and labels.max() < 0:
        raise DataError(
            f"{files[0]}: column {columns[0].label}: none of the {len(labels)} rows of this split"
            f" has a class (the first has {_said(labels[0])}); `--split train` leaves it out"
        )
    stamps = {str(file.relative_to(source)): file.stat().st_mtime_ns for file in files}
    reader = ParquetReader(str(source), columns[0].image, tuple(stamps.items()))
    return _listed(groups, names, reader, columns[0].label)


def _check_complete(files: Sequence[Path]) -> None:
    """See that all files are there, where their names say how many there are."""
    there = {file.name for file in files}
    found = {m.groups() for m in map(_COUNTED.fullmatch, there) if m}
    for start, digits, count in {(start, len(number), count) for start, number, count in found}:
        names = (f"{start}{n:0{digits}}-of-{count}.parquet" for n in range(int(count[-6:])))
        if missing := [name for name in names if name not in there]:
            raise DataError(
                f"{files[0].parent}: {len(missing)} of {int(count)} files are missing, such as"
                f" {missing[0]}; download them, too"
            )


@contextmanager
def _told(path: Path, what: str = "") -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, MemoryError):
            raise
        why, remedy = _why(path, str(error))
        raise DataError(f"{path}: {what}not readable as Parquet: {why}; {remedy}") from error


def _why(path: Path, error: str) -> tuple[str, str]:
    """Why a file cannot be read, and what to do about it."""
    with path.open("rb") as file:
        start = file.read(len(_LFS))
    if start == _LFS:
        return (
            "its content is elsewhere",
            "it is a pointer of Git LFS: `git lfs pull` fetches the file",
        )
    if not start.startswith(_MAGIC):
        found = f"begins with {start[:8]!r}" if start else "is empty"
        remedy = "download it again, or remove it if it is no part of the data set"
        return f"it {found}, where {_MAGIC.decode()} is expected", remedy
    return error.partition("\n")[0].rstrip("."), "download it again"


def _columns(path: Path) -> Columns:
    with _told(path), opened(path) as file:
        return find_columns(path, file.schema_arrow)


def _groups(path: Path, columns: Columns) -> Iterator[_Group]:
    first_row = 0
    wanted = [columns.label, *([f"{columns.image}.path"] if columns.has_paths else [])]
    with _told(path), opened(path) as file:
        for number in range(file.num_row_groups):
            with _told(path, f"row group {number}: "):
                table = file.read_row_group(number, columns=wanted, use_threads=False)
                labels = _labels(table.column(columns.label))
            names = [b""] * len(labels)
            if columns.has_paths:
                paths = table.column(columns.image).combine_chunks().field("path")
                names = [_name(path) for path in paths.cast(pa.binary()).to_pylist()]
            yield _Group(path, number, first_row, _mean_bytes(file, number, columns), labels, names)
            first_row += len(labels)


def _labels(column: pa.ChunkedArray) -> NDArray[np.int64]:
    if pa.types.is_uint64(column.type):  # whose largest fit no int64, and are no class either
        column = pc.call_function("min_element_wise", [column, pa.scalar(MAX_CLASSES, pa.uint64())])
    return pc.call_function("coalesce", [column.cast(pa.int64()), pa.scalar(_NULL)]).to_numpy()


def _said(label: int) -> str:
    return "null" if label == _NULL else str(label)


def _name(path: bytes | None) -> bytes:
    return (path or b"").replace(b"\\", b"/").rpartition(b"/")[2]


def _mean_bytes(file: pq.ParquetFile, group: int, columns: Columns) -> int:
    """Bytes of an image of the group on average, as the footer has them."""
    about = file.metadata.row_group(group)
    for number in range(about.num_columns):
        chunk = about.column(number)
        if chunk.path_in_schema == f"{columns.image}.bytes":
            mean = chunk.total_uncompressed_size // max(1, about.num_rows)
            return min(max(1, mean), _LARGEST_BYTES)
    return 1


def _numbered(training: Sequence[Path], columns: Columns) -> tuple[str, ...]:
    """Names of classes that have numbers only; sorted, they are in the order of these."""
    plain = columns._replace(has_paths=False)
    tops = [g.labels.max(initial=-1) for file in training for g in _groups(file, plain)]
    top = max(map(int, tops), default=-1)
    if top < 0:
        raise DataError(
            f"{training[0]}: column {columns.label}: no row has a class (null or below 0);"
            " make_shards needs a data set with classes"
        )
    if top >= MAX_CLASSES:
        raise DataError(
            f"{training[0]}: its column {columns.label} goes up to {top}; expected class numbers"
            f" from 0 on, below {MAX_CLASSES:,}"
        )
    return tuple(f"{number:0{len(str(top))}}" for number in range(top + 1))


def _listed(
    groups: Sequence[_Group], classes: tuple[str, ...], reader: ParquetReader, column: str
) -> Scan:
    builder, are_named = ScanBuilder(), _have_names(groups)
    for group in groups:
        file = str(group.file.relative_to(reader.root))
        stamp = dict(reader.stamps)[file]
        for row, (label, name) in enumerate(zip(group.labels.tolist(), group.names, strict=True)):
            text = name.decode(errors="surrogateescape")
            location = f"{file}:group {group.number}:row {row}:{text}"
            if not 0 <= label < len(classes):
                kind = "no label" if label < 0 else "unknown class"
                detail = f"column {column} has {_said(label)}, and the classes are {_span(classes)}"
                builder.report(kind, location, detail)
            else:
                serial = f"{group.file.stem}-{group.first_row + row:06d}."
                key = sample_key(f"{classes[label]}/{text if are_named else serial}")
                builder.add(key, location, label=label, size=group.size, stamp=stamp)
    scan = builder.scan(classes, reader)
    return replace(scan, blocks=_blocks(scan, reader), has_exact_sizes=False)


def _span(classes: Sequence[str]) -> str:
    return f"0 to {len(classes) - 1}" if len(classes) > 1 else "0 alone"


def _have_names(groups: Sequence[_Group]) -> bool:
    """Whether every row has the name of a file that no other one of its class has."""
    if not all(all(group.names) for group in groups):
        return False
    table = pa.table(
        {
            "label": np.concatenate([np.zeros(0, np.int64), *(g.labels for g in groups)]),
            "stem": pa.array([n.rpartition(b".")[0] or n for g in groups for n in g.names]),
        }
    )
    return table.group_by(["label", "stem"]).aggregate([]).num_rows == table.num_rows


def _blocks(scan: Scan, reader: ParquetReader) -> NDArray[np.int64]:
    """A number for the row group of each entry."""
    order = {name: place for place, (name, _) in enumerate(reader.stamps)}
    blocks = np.empty(len(scan), np.int64)
    for entry in range(len(scan)):
        file, group, _ = _parts(scan.location(entry))
        blocks[entry] = order[file] << 32 | group
    return np.unique(blocks, return_inverse=True)[1].reshape(-1)
