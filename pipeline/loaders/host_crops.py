"""Crops decoded on the host: of every JPEG just what its crop needs, by the native extension.

Images that are no plain JPEGs go through PIL.
"""

from collections.abc import Sequence

import numpy as np
from millstream_native import Pool, decode_crops
from numpy.typing import NDArray

from pipeline.config import InputSpec
from pipeline.loaders.encoded import EncodedBatch
from pipeline.loaders.pil_images import PIL_ERRORS, open_image, resampled
from pipeline.loaders.regions import Regions, regions_of


class HostCrops:
    """Decodes batches, without the interpreter's lock.

    Attributes:
        threads: that do it.
    """

    def __init__(self, spec: InputSpec, *, threads: int) -> None:
        """Start so many threads."""
        self._spec = spec
        self.threads = Pool(threads)

    def decode(self, batch: EncodedBatch, out: NDArray[np.uint8]) -> dict[int, str]:
        """Write the images to `out`, (B, size, size, 3); return why there is none, by position."""
        regions = regions_of(batch.samples, batch.crops, self._spec)
        reasons: dict[int, str] = {}
        for position, kind, damage in self._decode_crops(batch, regions, out):
            is_jpeg = kind == "damaged"
            reasons[position] = (
                damage if is_jpeg else _decode_with_pil(batch, regions, position, out[position])
            )
        if batch.crops is not None:
            _shift_within_black(out, batch.crops.shifts)
        return {position: reason for position, reason in reasons.items() if reason}

    def close(self) -> None:
        """End the threads."""
        self.threads.close()

    def _decode_crops(
        self, batch: EncodedBatch, regions: Regions, out: NDArray[np.uint8]
    ) -> Sequence[tuple[int, str, str]]:
        # Raw pixels are left to PIL; some of them would begin as a JPEG does.
        data = [sample.data if sample.data.ndim == 1 else b"" for sample in batch.samples]
        sizes = np.array([(sample.height, sample.width) for sample in batch.samples], np.int32)
        return decode_crops(self.threads, data, sizes, *regions, out)


def _decode_with_pil(
    batch: EncodedBatch, regions: Regions, position: int, out: NDArray[np.uint8]
) -> str:
    """Write the image at `position` to `out`, or say why there is none."""
    try:
        out[:] = resampled(open_image(batch.samples[position]), regions, position, batch.size)
    except PIL_ERRORS as error:
        return str(error)
    return ""


def _shift_within_black(pixels: NDArray[np.uint8], shifts: NDArray[np.int64]) -> None:
    """Take pixel (y, x) from (y, x) + shift, black from outside; in place."""
    size = pixels.shape[1]
    for position in np.flatnonzero(shifts.any(axis=1)):
        down, right = shifts[position].tolist()
        rows, columns = (slice(max(0, -by), min(size, size - by)) for by in (down, right))
        source = (slice(rows.start + down, rows.stop + down),)
        source += (slice(columns.start + right, columns.stop + right),)
        moved = np.zeros_like(pixels[position])
        moved[rows, columns] = pixels[position][source]
        pixels[position] = moved
