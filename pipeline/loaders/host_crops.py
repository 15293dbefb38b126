"""Crops decoded on the host: of every JPEG just what its crop needs, by the native extension.

Images that are no plain JPEGs go through PIL.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from millstream_native import Pool, decode_crops
from numpy.typing import NDArray

from pipeline.config import InputSpec
from pipeline.loaders.encoded import EncodedBatch
from pipeline.loaders.pil_images import PIL_ERRORS, open_image, resampled
from pipeline.loaders.regions import Content, Regions, content_of, regions_of


class HostCrops:
    """Decodes batches, without the interpreter's lock.

    Attributes:
        threads: that do it.
    """

    def __init__(self, spec: InputSpec, *, threads: int) -> None:
        """Start so many threads."""
        self._spec = spec
        self.threads = Pool(threads)
        self._calls = ThreadPoolExecutor(threads, thread_name_prefix="decode-alike")

    def decode(self, batch: EncodedBatch, out: NDArray[np.uint8]) -> dict[int, str]:
        """Write the images to `out`, (B, size, size, 3); return why there is none, by position."""
        regions = regions_of(batch.samples, batch.crops, self._spec)
        reasons: dict[int, str] = {}
        content = content_of(batch.samples, batch.crops, self._spec)
        if content is not None:
            out[:] = self._spec.mean_colour
        filled = _filled(out, content)
        for position, kind, damage in self._decode_crops(batch, regions, out, content, filled):
            is_jpeg = kind == "damaged"
            reasons[position] = (
                damage if is_jpeg else _decode_with_pil(batch, regions, position, filled[position])
            )
        if batch.crops is not None:
            _shift_within_black(out, batch.crops.shifts)
        return {position: reason for position, reason in reasons.items() if reason}

    def close(self) -> None:
        """End the threads."""
        self._calls.shutdown()
        self.threads.close()

    def _decode_crops(
        self,
        batch: EncodedBatch,
        regions: Regions,
        out: NDArray[np.uint8],
        content: Content | None,
        filled: Sequence[NDArray[np.uint8]],
    ) -> Sequence[tuple[int, str, str]]:
        """Decode what each image fills of `out`; return which failed, with what and why."""
        every = np.arange(len(batch.samples))
        if content is None:
            return self._decode_some(batch, regions, every, out)
        # Those that fill the same shape are one call, and the calls share the threads.
        _, group = np.unique(content.shape, axis=0, return_inverse=True)
        alike = [np.flatnonzero(group.reshape(-1) == number) for number in range(group.max() + 1)]
        calls = [
            self._calls.submit(self._decode_alike, batch, regions, some, filled) for some in alike
        ]
        return [failed for call in calls for failed in call.result()]

    def _decode_alike(
        self,
        batch: EncodedBatch,
        regions: Regions,
        positions: NDArray[np.int64],
        filled: Sequence[NDArray[np.uint8]],
    ) -> Sequence[tuple[int, str, str]]:
        """Decode images at `positions`, which fill places of one shape."""
        pixels = np.empty((len(positions), *filled[positions[0]].shape), np.uint8)
        failed = self._decode_some(batch, regions, positions, pixels)
        broken = {position for position, _, _ in failed}
        for image, position in zip(pixels, positions.tolist(), strict=True):
            if position not in broken:
                filled[position][:] = image
        return failed

    def _decode_some(
        self,
        batch: EncodedBatch,
        regions: Regions,
        positions: NDArray[np.int64],
        out: NDArray[np.uint8],
    ) -> Sequence[tuple[int, str, str]]:
        samples = [batch.samples[position] for position in positions.tolist()]
        # Raw pixels are left to PIL; some of them would begin as a JPEG does.
        data = [sample.data if sample.data.ndim == 1 else b"" for sample in samples]
        sizes = np.array([(sample.height, sample.width) for sample in samples], np.int32)
        some = Regions._make(column[positions] for column in regions)
        failed = decode_crops(self.threads, data, sizes, *some, out)
        return [(int(positions[place]), kind, why) for place, kind, why in failed]


def _filled(pixels: NDArray[np.uint8], content: Content | None) -> Sequence[NDArray[np.uint8]]:
    """Return, of each of the (B, size, size, 3) pixels, the part that its image fills."""
    if content is None:
        return list(pixels)
    corners, ends = content.corner.tolist(), (content.corner + content.shape).tolist()
    return [
        image[top:bottom, left:right]
        for image, (top, left), (bottom, right) in zip(pixels, corners, ends, strict=True)
    ]


def _decode_with_pil(
    batch: EncodedBatch, regions: Regions, position: int, out: NDArray[np.uint8]
) -> str:
    """Write the image at `position` to `out`, or say why there is none."""
    try:
        image = open_image(batch.samples[position])
        out[:] = resampled(image, regions, position, (out.shape[0], out.shape[1]))
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
