"""A list of images: CSV lines of path,label. Labels are names of classes, or all their numbers."""

import csv
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.class_folders import FileReader
from pipeline.formats.scan import Scan
from pipeline.formats.source import MAX_CLASSES
from pipeline.images.names import sample_key
from pipeline.prepare.layouts.scan_builder import ScanBuilder

_HEADER = ["path", "label"]
_LONGEST_HEADER = 100


def is_list(path: Path) -> bool:
    """Whether a file begins with the line `path,label`, as one that is found, not named, must."""
    if not path.is_file():
        return False
    first = _start_of(path).decode("utf-8-sig", errors="replace")
    return [cell.strip().lower() for cell in first.partition("\n")[0].split(",")] == _HEADER


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LONGEST_HEADER)


def list_classes(path: Path) -> tuple[tuple[str, ...], bool]:
    """Return the names of the classes in a list, and whether its labels are numbers.

    Names are sorted. Labels that are all numbers are no names: the classes are 0 to the last.

    Raises:
        DataError: if it has no line that can be used.
    """
    labels = _labels(path)
    if not labels:
        raise DataError(f"{path}: no line of the form path,label in it")
    if not _are_numbers(labels):
        _refuse_strays(path, labels)
        return tuple(sorted(labels)), False
    count = max(map(int, labels)) + 1
    if count > MAX_CLASSES:
        raise DataError(
            f"{path}: its labels are numbers, so {count - 1} stands for {count:,} classes, more"
            f" than {MAX_CLASSES:,}; number them from 0, or put a letter before those that are"
            " names"
        )
    return tuple(f"{label:0{len(str(count - 1))}d}" for label in range(count)), True


def _refuse_strays(path: Path, labels: set[str]) -> None:
    """Refuse a list of numbers with something else in it, which would make names of them all."""
    others = sorted(label for label in labels if not _is_number(label))
    if 2 * len(others) < len(labels):
        raise DataError(
            f"{path}: {len(labels) - len(others)} labels are numbers, and {others[0]!r} is not;"
            " labels are all numbers from 0 on, or names"
        )


def _labels(path: Path) -> set[str]:
    return {row[1].strip() for _, row in _rows(path) if len(row) == 2} - {""}


def _are_numbers(labels: set[str]) -> bool:
    return all(map(_is_number, labels))


def _is_number(label: str) -> bool:
    # One of thousands of digits is none that Python would read.
    return label.isascii() and label.isdecimal() and len(label) < 20


def scan_list(
    path: Path, *, root: Path, classes: Sequence[str], numbered: bool | None = None
) -> Scan:
    """List the images that the file at `path` names.

    Args:
        path: of the list.
        root: what the paths in it are relative to.
        classes: names of the classes.
        numbered: whether labels are positions in `classes`, or else names in it; None: positions if
            all labels of this list are numbers.
    """
    builder = ScanBuilder()
    numbered = _are_numbers(_labels(path)) if numbered is None else numbered
    names = map(str, range(len(classes))) if numbered else classes
    by_name = {name: label for label, name in enumerate(names)}
    for line, row in _rows(path):
        if len(row) != 2 or not row[1].strip():
            builder.report("bad line", f"{path.name}:{line}", f"expected path,label, got {row}")
            continue
        place, text = row[0], row[1].strip()
        label = by_name.get(str(int(text)) if numbered and _is_number(text) else text)
        if label is None:
            first, last = (0, len(classes) - 1) if numbered else (classes[0], classes[-1])
            known = f"there are {len(classes)} classes, from {first} to {last}"
            builder.report("unknown class", f"{path.name}:{line}", f"{text!r}; {known}")
        else:
            _add(builder, root, place, label)
    return builder.scan(tuple(classes), FileReader(str(root)))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is neither blank nor the header."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for line, row in enumerate(csv.reader(file), start=1):
                is_header = line == 1 and [cell.strip().lower() for cell in row] == _HEADER
                if row and not is_header:
                    yield line, row
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from error


def _add(builder: ScanBuilder, root: Path, place: str, label: int) -> None:
    location = os.path.relpath(place, root) if Path(place).is_absolute() else place
    try:
        status = os.stat(root / location)  # noqa: PTH116 (a Path for each costs seconds)
    except (OSError, ValueError) as error:
        builder.report("unreadable file", place, getattr(error, "strerror", None) or str(error))
        return
    if not stat.S_ISREG(status.st_mode):
        builder.report("not a file", place, "a folder, device, pipe or socket")
        return
    # A key becomes the name of a tar's member, which must not lead out of where it is unpacked.
    parts = [part for part in location.split("/") if part not in ("", ".", "..")]
    key = sample_key("/".join(parts))
    builder.add(key, location, label=label, size=status.st_size, stamp=status.st_mtime_ns)
