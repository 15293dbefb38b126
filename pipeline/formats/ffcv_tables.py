"""The tables of an FFCV file (`.beton`), read and checked without FFCV.

Layout: a header, a descriptor for each field, a metadata row for each sample, pages of data, and
last the table of what was allocated in them. FFCV's own reader takes most damaged files for good
ones (a cut-off end, a header whose table never came); here each table has to fit the others.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

VERSION = 2
JPEG_MODE, RAW_MODE = 0, 1

_HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("table", "<u8"),
    ],
    align=True,
)
_FIELD = np.dtype([("type", "u1"), ("name", "u1", 16), ("arguments", "u1", 1024)], align=True)
_ALLOCATION = np.dtype([("sample", "<u8"), ("offset", "<u8"), ("size", "<u8")])
_IMAGE_TYPE, _INT_TYPE = 2, 1
_BYTES = np.dtype([("offset", "<u8"), ("size", "<u8")])
_METADATA = {
    0: np.dtype("<f8"),
    _INT_TYPE: np.dtype("<i8"),
    _IMAGE_TYPE: np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("offset", "<u8")]),
    3: _BYTES,
    4: np.dtype("<u8"),
    5: _BYTES,
    6: np.dtype("<u8"),
}
_MAX_FIELDS = 64
_REMEDY = "it was cut off, damaged, or its writer was stopped; copy it again, or make it again"


class FfcvTables(NamedTuple):
    """A row for each sample, in the order of the file.

    Attributes:
        is_raw: (N,) bool; raw RGB pixels rather than a JPEG.
        widths: (N,) pixels.
        heights: (N,) pixels.
        offsets: (N,) of the image's first byte in the file.
        sizes: (N,) bytes of the image.
        labels: (N,) int64.
    """

    is_raw: NDArray[np.bool_]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "FfcvTables":
        """Return only `rows`, in that order."""
        return FfcvTables(
            self.is_raw[rows],
            self.widths[rows],
            self.heights[rows],
            self.offsets[rows],
            self.sizes[rows],
            self.labels[rows],
        )


def read_tables(path: Path) -> FfcvTables:
    """Read the tables of the file at `path`.

    Raises:
        DataError: if it is no `.beton`, not whole, or without an image or a label field.
    """
    try:
        size = path.stat().st_size
        content = np.memmap(path, np.uint8, mode="r") if size else np.empty(0, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    header = _view(path, content, 0, _HEADER, 1)[0]
    if header["version"] != VERSION or not 0 < header["num_fields"] <= _MAX_FIELDS:
        raise DataError(f"{path}: not an FFCV file of version {VERSION} (.beton)")
    samples, table = int(header["num_samples"]), int(header["table"])
    fields = _view(path, content, _HEADER.itemsize, _FIELD, int(header["num_fields"]))
    row = np.dtype([(f"f{i}", _metadata_type(path, f)) for i, f in enumerate(fields)], align=True)
    start = _HEADER.itemsize + fields.nbytes
    if samples == 0 or not start + samples * row.itemsize <= table < size:
        raise DataError(f"{path}: {samples} samples, but no table of them at the end: {_REMEDY}")
    rows = _view(path, content, start, row, samples)
    allocations = _view(path, content, table, _ALLOCATION, (size - table) // _ALLOCATION.itemsize)
    if (size - table) % _ALLOCATION.itemsize:
        raise DataError(f"{path}: the table at its end is not whole: {_REMEDY}")
    image, label = _image_and_label(path, fields)
    return _joined(path, rows[image], rows[label], allocations, data_end=table)


def _view(
    path: Path, content: NDArray[np.uint8], start: int, kind: np.dtype, count: int
) -> NDArray[np.void]:
    end = start + count * kind.itemsize
    if end > len(content):
        raise DataError(f"{path}: ends after {len(content)} bytes, in the middle: {_REMEDY}")
    return np.frombuffer(content[start:end].tobytes(), kind)


def _metadata_type(path: Path, field: np.void) -> np.dtype:
    kind = int(field["type"])
    if kind not in _METADATA:
        raise DataError(
            f"{path}: its field {_name(field)!r} is of a custom type ({kind}), which only the"
            " program that wrote it can read; write the images with FFCV's RGBImageField"
        )
    return _METADATA[kind]


def _name(field: np.void) -> str:
    return field["name"].tobytes().partition(b"\0")[0].decode(errors="replace")


def _image_and_label(path: Path, fields: NDArray[np.void]) -> tuple[str, str]:
    """Return the columns of the one image and of the label: named so, or the only integer."""
    images = [i for i, f in enumerate(fields) if f["type"] == _IMAGE_TYPE]
    integers = [i for i, f in enumerate(fields) if f["type"] == _INT_TYPE]
    labels = [i for i in integers if _name(fields[i]) == "label"] or integers
    if len(images) != 1 or len(labels) != 1:
        names = ", ".join(map(_name, fields))
        raise DataError(
            f"{path}: needs one RGB image field, and one integer field or one named 'label';"
            f" it has the fields {names}"
        )
    return f"f{images[0]}", f"f{labels[0]}"


def _joined(
    path: Path,
    images: NDArray[np.void],
    labels: NDArray[np.int64],
    allocations: NDArray[np.void],
    *,
    data_end: int,
) -> FfcvTables:
    """Find the size of each image in the table of allocations."""
    allocations = allocations[np.argsort(allocations["offset"], kind="stable")]
    offsets = images["offset"]
    place = np.searchsorted(allocations["offset"], offsets)
    known = place < len(allocations)
    place[~known] = 0
    if len(allocations) == 0 or not (known & (allocations["offset"][place] == offsets)).all():
        raise DataError(f"{path}: images are missing in the table at its end: {_REMEDY}")
    sizes, is_raw = allocations["size"][place].astype(np.int64), images["mode"] == RAW_MODE
    widths, heights = (images[name].astype(np.int64) for name in ("width", "height"))
    fits = (sizes > 0) & (offsets.astype(np.int64) + sizes <= data_end)
    fits &= ~is_raw | (sizes == 3 * widths * heights)
    fits &= (images["mode"] <= RAW_MODE) & (np.minimum(widths, heights) > 0) & (labels >= 0)
    if not fits.all():
        first = int(np.flatnonzero(~fits)[0])
        raise DataError(f"{path}: the tables contradict each other at sample {first}: {_REMEDY}")
    return FfcvTables(is_raw, widths, heights, offsets.astype(np.int64), sizes, labels.copy())
