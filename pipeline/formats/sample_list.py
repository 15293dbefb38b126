"""A list of images: CSV lines of path,label. Labels are names of classes, or their numbers."""

import csv
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.formats.class_folders import FileReader
from pipeline.formats.keys import sample_key
from pipeline.formats.listing import Listing
from pipeline.formats.scan import Scan
from pipeline.formats.source import DataError

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


def list_classes(path: Path) -> tuple[str, ...]:
    """Return the names of the classes in a list: sorted; if all labels are numbers, 0 to the last.

    Raises:
        DataError: if it has no line that can be used.
    """
    labels = {row[1].strip() for _, row in _rows(path) if len(row) == 2}
    if not labels:
        raise DataError(f"{path}: no line of the form path,label in it")
    if not all(label.isdecimal() for label in labels):
        return tuple(sorted(labels))
    count = max(map(int, labels)) + 1
    return tuple(f"{label:0{len(str(count - 1))}d}" for label in range(count))


def scan_list(path: Path, *, root: Path, classes: Sequence[str]) -> Scan:
    """List the images that the file at `path` names.

    Args:
        path: of the list.
        root: what the paths in it are relative to.
        classes: names of the classes; a number is a position in it.
    """
    listing, by_name = Listing(), {name: label for label, name in enumerate(classes)}
    for line, row in _rows(path):
        if len(row) != 2:
            listing.report("bad line", f"{path.name}:{line}", f"expected path,label, got {row}")
            continue
        place, text = row[0], row[1].strip()
        label = by_name.get(text, int(text) if text.isdecimal() else len(classes))
        if label >= len(classes):
            known = f"there are {len(classes)} classes, from {classes[0]} to {classes[-1]}"
            listing.report("unknown class", f"{path.name}:{line}", f"{text!r}; {known}")
        else:
            _add(listing, root, place, label)
    return listing.scan(tuple(classes), FileReader(str(root)))


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


def _add(listing: Listing, root: Path, place: str, label: int) -> None:
    location = os.path.relpath(place, root) if Path(place).is_absolute() else place
    try:
        status = os.stat(root / location)  # noqa: PTH116 (a Path for each costs seconds)
    except (OSError, ValueError) as error:
        listing.report("unreadable file", place, getattr(error, "strerror", None) or str(error))
        return
    if not stat.S_ISREG(status.st_mode):
        listing.report("not a file", place, "a folder, device, pipe or socket")
        return
    # A key becomes the name of a tar's member, which must not lead out of where it is unpacked.
    parts = [part for part in location.split("/") if part not in ("", ".", "..")]
    key = sample_key("/".join(parts))
    listing.add(key, location, label=label, size=status.st_size, stamp=status.st_mtime_ns)
