"""Writing FFCV files: images through FFCV's own field, pages and tables through its own writer.

Its worker processes are left out. They are where it hangs: when one raises or dies, the parent
waits for ever for a counter. Here its work runs in this process and an exception is an exception;
threads encode the images before it. So the same images also give the same bytes, whatever the
number of threads. The field stays FFCV's own type, so any FFCV reads the file.
"""

import multiprocessing
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import NamedTuple

import cv2
import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.memory_allocator import MemoryAllocator
from ffcv.types import ALLOC_TABLE_TYPE
from ffcv.writer import DatasetWriter, worker_job_indexed_dataset
from numpy.typing import NDArray

from pipeline.errors import UnusableImageError
from pipeline.formats.ffcv_tables import JPEG_MODE
from pipeline.images.header import ImageHeader
from pipeline.images.pixels import as_rgb
from pipeline.images.usable import decoded
from pipeline.prepare.writers.ffcv_config import MAX_SIDE, FfcvConfig

ENCODER = f"OpenCV {cv2.__version__}"
"""With which FFCV resizes and encodes."""

_NUMBERS = 3  # of an allocation: sample, place, size
_CHUNK = 100
_FFCV_CHANNELS = (1, 3)
_HASH_RANGE = 1 << 32

Malloc = Callable[[int], tuple[int, NDArray[np.uint8]]]


class StoredImage(NamedTuple):
    """An image as it lies in the file.

    Attributes:
        mode: `JPEG_MODE` or `RAW_MODE`.
        data: one-dimensional uint8; empty for an image that is left out.
    """

    mode: int
    width: int
    height: int
    data: NDArray[np.uint8]


class PageOverflowError(ValueError):
    """An image that does not fit a page; `size_bytes` is what it needs."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"an image of {size_bytes} bytes does not fit a page")
        self.size_bytes = size_bytes


def encode(data: bytes, header: ImageHeader, key: str, config: FfcvConfig) -> StoredImage:
    """Bring an encoded image to the form in which it is stored.

    Raises:
        UnusableImageError: if it cannot be decoded, or is too large for the format.
    """
    if config.mode == "copy" and _ffcv_decodes(header):
        _check_side(header.width, header.height)
        return StoredImage(JPEG_MODE, header.width, header.height, np.frombuffer(data, np.uint8))
    special = {"copy": "raw", "proportion": _drawn_mode(key, config.compress_probability)}
    field = RGBImageField(
        write_mode=special.get(config.mode, config.mode),
        max_resolution=config.max_resolution or MAX_SIDE,
        smart_threshold=config.smart_threshold,
        jpeg_quality=config.quality,
    )
    row, kept = np.zeros(1, field.metadata_type), []

    def keep(size: int) -> tuple[int, NDArray[np.uint8]]:
        kept.append(np.empty(size, np.uint8))
        return 0, kept[0]

    pixels = np.asarray(as_rgb(decoded(data)))
    if not config.max_resolution:
        _check_side(pixels.shape[1], pixels.shape[0])
    RGBImageField.encode(field, row, pixels, keep)
    mode, width, height, _ = row[0].item()
    return StoredImage(mode, width, height, kept[0])


def _ffcv_decodes(header: ImageHeader) -> bool:
    """FFCV ignores what its decoder says, and shows another picture for what it cannot decode."""
    is_plain = header.channels in _FFCV_CHANNELS and header.bits == 8 and header.is_common
    return header.format == "JPEG" and is_plain


def _check_side(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        raise UnusableImageError(
            "too large for FFCV", f"{width} x {height} pixels: more than {MAX_SIDE} in a row"
        )


def _drawn_mode(key: str, probability: float) -> str:
    return "jpg" if zlib.crc32(key.encode()) < probability * _HASH_RANGE else "raw"


def write_file(
    path: Path,
    images: Iterator[tuple[StoredImage, int]],
    *,
    count: int,
    page_bytes: int,
) -> None:
    """Write `count` images with their labels to `path`, in order.

    Raises:
        PageOverflowError: if one of them is larger than a page.
    """
    fields = {"image": RGBImageField(), "label": IntField()}
    # On the instance: a subclass would get a type number that stock readers do not know.
    fields["image"].encode = _place
    _InlineWriter(str(path), fields, page_bytes).write(images, count)


def _place(destination: NDArray[np.void], image: StoredImage, malloc: Malloc) -> None:
    """Stands in for `RGBImageField.encode`, for images that are encoded already."""
    if len(image.data) == 0:
        return
    destination["mode"] = image.mode
    destination["width"], destination["height"] = image.width, image.height
    destination["data_ptr"], storage = malloc(len(image.data))
    storage[:] = image.data


class _InlineWriter(DatasetWriter):
    """FFCV's writer, which does the work of its workers itself."""

    def prepare(self) -> None:
        """Write the header; metadata need not be shared, so /dev/shm need not be that large."""
        super().prepare()
        shared = self.metadata_sm
        self.metadata_sm = SimpleNamespace(buf=bytearray(shared.size))
        shared.close()
        shared.unlink()

    def write(self, images: Iterator[tuple[StoredImage, int]], count: int) -> None:
        """Write the whole file."""
        self.num_samples = count
        self.prepare()
        allocations: SimpleQueue[_Allocations] = SimpleQueue()
        allocator = MemoryAllocator(self.fname, self.data_region_start, self.page_size)
        # It uses no more of a list than that class has.
        allocator.allocations = _Allocations()  # pyright: ignore[reportAttributeAccessIssue]
        worker_job_indexed_dataset(
            _Chunks(count),
            self.metadata_sm,
            self.metadata_type,
            self.fields,
            allocator,
            multiprocessing.Value("Q", 0),
            allocations,
            _InOrder(images, self.page_size),
        )
        self.finalize([allocations.get().table()])


class _Allocations:
    """Looks like the list of the allocator; as objects, a million allocations take 0.4 GB."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    def __len__(self) -> int:
        return len(self._numbers) // _NUMBERS

    def __getitem__(self, index: int) -> tuple[int, ...]:
        assert index == -1, "only the last one is asked for"
        return tuple(self._numbers[-_NUMBERS:])

    def append(self, allocation: tuple[int, int, int]) -> None:
        self._numbers.extend(allocation)

    def pop(self) -> None:
        del self._numbers[-_NUMBERS:]

    def table(self) -> NDArray[np.void]:
        """Return all of them as FFCV stores them."""
        return np.frombuffer(self._numbers, ALLOC_TABLE_TYPE)


class _Chunks:
    """Looks like the queue of work: pairs of (place, sample), and None at the end."""

    def __init__(self, count: int) -> None:
        self._starts = iter(range(0, count, _CHUNK))
        self._count = count

    def get(self) -> list[tuple[int, int]] | None:
        start = next(self._starts, None)
        if start is None:
            return None
        return [(i, i) for i in range(start, min(start + _CHUNK, self._count))]


class _InOrder:
    """Looks like a data set; it is asked for one image after the other."""

    def __init__(self, images: Iterator[tuple[StoredImage, int]], page_bytes: int) -> None:
        self._images = images
        self._page_bytes = page_bytes

    def __getitem__(self, index: int) -> tuple[StoredImage, int]:
        image, label = next(self._images)
        if len(image.data) > self._page_bytes:
            raise PageOverflowError(len(image.data))
        return image, label
