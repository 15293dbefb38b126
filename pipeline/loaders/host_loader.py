"""Host loader: crops decoded, resampled and augmented by the native extension, on its threads.

Each batch is one call that decodes of every JPEG just what its crop needs, and one that applies
the drawn operations, both without the interpreter's lock. Images that are no plain JPEGs go through
PIL, as do operations that have no kernel of ours.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np
import torch
from millstream_native import Pool, apply_operations, decode_crops
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.augment.image_draws import ImageDraws
from pipeline.augment.kernels import Kernel, kernel_calls
from pipeline.batch import Batch, send
from pipeline.config import InputSpec
from pipeline.loaders.encoded import GRAY, EncodedBatch, EncodedBatches
from pipeline.loaders.look_ahead import look_ahead
from pipeline.loaders.pil_images import PIL_ERRORS, open_image, resampled
from pipeline.loaders.regions import Content, Regions, content_of, regions_of

_DECODE_AHEAD = 2
"""Batches being decoded beside the one in use."""
_BUFFERS = _DECODE_AHEAD + 2
"""So many batches can be in memory: ahead, in use, and the one that is begun."""

Decoded = tuple[Tensor, dict[int, str]]
"""(B, size, size, 3) uint8 images, gray where there is none; and why not, by position."""


class HostLoader:
    """Decodes on the host; keeps the contract of `pipeline.batch.Loader`.

    Attributes:
        batches_per_epoch: micro-batches of this rank.
        replaced: images replaced by gray ones so far, since they could not be decoded.
    """

    def __init__(self, batches: EncodedBatches, *, spec: InputSpec, device: torch.device) -> None:
        """Start the threads.

        Args:
            batches: what to decode.
            spec: size of the images, and the evaluation resize.
            device: where the images go.
        """
        self.batches_per_epoch = batches.batches_per_epoch
        self.replaced = 0
        self._batches = batches
        self._spec = spec
        self._device = device
        self._fill = np.array(batches.augmentation.fill, np.uint8)
        self._threads = Pool(batches.threads)
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._calls = ThreadPoolExecutor(batches.threads, thread_name_prefix="decode-alike")

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch]:
        """Yield the batches of `epoch` from batch `start` on."""
        return self._decode(self._batches.read(epoch, start))

    def close(self) -> None:
        """End the threads."""
        self._batches.close()
        self._ahead.shutdown(cancel_futures=True)
        self._calls.shutdown()
        self._threads.close()

    def _decode(self, encoded: Generator[EncodedBatch]) -> Generator[Batch]:
        with closing(encoded):
            begun = self._begin(encoded)
            with closing(look_ahead(begun, _DECODE_AHEAD)) as decoded:
                for batch, (images,) in decoded:
                    yield self._collect(batch, *images)

    def _begin(
        self, encoded: Generator[EncodedBatch]
    ) -> Iterator[tuple[EncodedBatch, list[Future[Decoded]]]]:
        buffers: list[Tensor | None] = [None] * _BUFFERS
        for number, batch in enumerate(encoded):
            place = number % _BUFFERS
            out = buffers[place] = self._buffer(batch, buffers[place])
            yield batch, [self._ahead.submit(self._images, batch, out)]

    def _buffer(self, batch: EncodedBatch, used: Tensor | None) -> Tensor:
        """Return memory for the images of `batch`: on a CPU that of an earlier one."""
        shape = (len(batch.samples), batch.size, batch.size, 3)
        if self._device.type == "cuda":  # what is on its way to the device is not written to
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        if used is not None and used.shape == shape:
            return used
        return torch.empty(shape, dtype=torch.uint8)

    def _images(self, batch: EncodedBatch, out: Tensor) -> Decoded:
        if batch.error is not None:
            return out, {}
        pixels, reasons = out.numpy(), dict[int, str]()
        regions = regions_of(batch.samples, batch.crops, self._spec)
        content = content_of(batch.samples, batch.crops, self._spec)
        if content is not None:
            pixels[:] = self._spec.mean_colour
        filled = _filled(pixels, content)
        for position, kind, damage in self._decode_crops(batch, regions, pixels, content):
            is_jpeg = kind == "damaged"
            reasons[position] = (
                damage if is_jpeg else _decode_with_pil(batch, regions, position, filled[position])
            )
        reasons = {position: reason for position, reason in reasons.items() if reason}
        if batch.crops is not None:
            _shift_within_black(pixels, batch.crops.shifts)
        if batch.operations is not None:
            self._augment(pixels, batch.operations, batch.size)
        pixels[list(reasons)] = GRAY
        return out, reasons

    def _decode_crops(
        self,
        batch: EncodedBatch,
        regions: Regions,
        out: NDArray[np.uint8],
        content: Content | None,
    ) -> Sequence[tuple[int, str, str]]:
        """Decode what each image fills of `out`; return which failed, with what and why."""
        every = np.arange(len(batch.samples))
        if content is None:
            return self._decode_some(batch, regions, every, out)
        # Those that fill the same shape are one call, and the calls share the threads.
        _, group = np.unique(content.shape, axis=0, return_inverse=True)
        alike = [np.flatnonzero(group.reshape(-1) == number) for number in range(group.max() + 1)]
        filled = _filled(out, content)
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
        failed = decode_crops(self._threads, data, sizes, *some, out)
        return [(int(positions[place]), kind, why) for place, kind, why in failed]

    def _augment(self, pixels: NDArray[np.uint8], operations: ImageDraws, size: int) -> None:
        """Apply the operations to all images, in place."""
        if operations.mixed is None:
            calls = kernel_calls(operations.chain, size)
            if not np.any(calls.codes == Kernel.GAUSSIAN_BLUR_23):
                if calls.codes.any():
                    apply_operations(self._threads, pixels, *calls, self._fill)
                return
        # Imported here, because it brings timm along, which takes seconds.
        from pipeline.augment.reference_operations import apply_draws

        fill = self._batches.augmentation.fill
        for position in range(len(pixels)):
            image = Image.fromarray(pixels[position])
            pixels[position] = np.asarray(apply_draws(image, operations, position, fill))

    def _collect(self, batch: EncodedBatch, images: Tensor, reasons: dict[int, str]) -> Batch:
        if batch.error is not None:
            raise batch.error
        self.replaced += self._batches.note_unread(batch)
        self.replaced += self._batches.replace_or_raise(batch, reasons)
        return Batch(
            images=images.to(self._device, non_blocking=True).permute(0, 3, 1, 2),
            labels=send(batch.labels, self._device),
            samples=torch.from_numpy(batch.draws),
        )


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
