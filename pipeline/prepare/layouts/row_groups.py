"""Images of Parquet files, read a row group at a time and kept for a while.

A value in a Parquet file has no address: to get one, all before it in its row group are decoded,
and often the dictionary of the whole group. So a group is decoded once and its images are kept,
in memory or, of a large one, in a temporary file, until others need the room. The plan of a
conversion (`Scan.blocks`) sees to it that few groups are needed at a time.
"""

import atexit
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UnusableImageError

_KEPT_BYTES = 256_000_000
"""Of all groups that are kept; the last one is, however large."""
_IN_MEMORY_BYTES = 64_000_000
"""Of one group; more of it goes to a temporary file."""
_READ_BYTES = 1 << 20
_ROWS_AT_ONCE = 16


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file so that a column is read bit by bit, and what checksums it has are checked."""
    with pq.ParquetFile(path, buffer_size=_READ_BYTES, page_checksum_verification=True) as file:
        yield file


class _RowGroup:
    """The images of one row group. What cannot be decoded is told to who asks for it."""

    def __init__(self, path: Path, group: int, column: str) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 (`close`)
        self._ends = [0]
        self._absent: set[int] = set()
        self._error = "the row group has no such row"
        try:
            for data in _images(path, group, column):
                if data is None:
                    self._absent.add(len(self._ends) - 1)
                self._file.write(data or b"")
                self._ends.append(self.size_bytes + len(data or b""))
        except OSError as error:
            if error.errno is not None:  # of the system; Arrow's own have no number
                self.close()
                raise
            self._error = str(error)
        except MemoryError:
            self.close()
            raise
        except pa.ArrowException as error:
            self._error = str(error)

    @property
    def size_bytes(self) -> int:
        return self._ends[-1]

    def image(self, row: int) -> bytes:
        if row >= len(self._ends) - 1:
            raise UnusableImageError("damaged", f"its row group cannot be read: {self._error}")
        if row in self._absent:
            raise UnusableImageError("no image", "the row has no bytes of an image")
        self._file.seek(self._ends[row])
        return self._file.read(self._ends[row + 1] - self._ends[row])

    def close(self) -> None:
        self._file.close()


def _images(path: Path, group: int, column: str) -> Iterator[bytes | None]:
    with opened(path) as file:
        for batch in file.iter_batches(
            _ROWS_AT_ONCE, row_groups=[group], columns=[f"{column}.bytes"], use_threads=False
        ):
            for image in batch.column(column).field("bytes"):
                yield image.as_py()


_lock = threading.Lock()
_kept: "OrderedDict[tuple[Path, int, int], _RowGroup]" = OrderedDict()


@atexit.register
def forget() -> None:
    """Close what is kept."""
    with _lock:
        while _kept:
            _kept.popitem()[1].close()


def read_image(path: Path, *, stamp: int, group: int, row: int, column: str) -> bytes:
    """Return the encoded image in a row.

    Args:
        path: of the file.
        stamp: its modification time in ns, so that nothing is kept of what it was before.
        group: number of the row group in the file.
        row: number in the row group.
        column: of images.

    Raises:
        UnusableImageError: if the row has no image, or its row group is damaged there.
        OSError: if the file cannot be read for another reason.
    """
    place = (path, stamp, group)
    with _lock:
        if place not in _kept:
            _kept[place] = _RowGroup(path, group, column)
            while len(_kept) > 1 and sum(g.size_bytes for g in _kept.values()) > _KEPT_BYTES:
                _kept.popitem(last=False)[1].close()
        _kept.move_to_end(place)
        return _kept[place].image(row)
