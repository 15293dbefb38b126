"""Host loader: crops decoded, resampled and augmented by the native extension, on its threads.

Each batch is one call that decodes of every JPEG just what its crop needs, and one that applies
the drawn operations, both without the interpreter's lock. Operations that have no kernel of ours go
through PIL.
"""

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np
import torch
from millstream_native import apply_operations
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.augment.image_draws import ImageDraws
from pipeline.augment.kernels import Kernel, kernel_calls
from pipeline.batch import Batch, send
from pipeline.config import InputSpec
from pipeline.loaders.encoded import GRAY, EncodedBatch, EncodedBatches
from pipeline.loaders.host_crops import HostCrops
from pipeline.loaders.look_ahead import look_ahead

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
        self._device = device
        self._fill = np.array(batches.augmentation.fill, np.uint8)
        self._crops = HostCrops(spec, threads=batches.threads)
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="decode")

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch]:
        """Yield the batches of `epoch` from batch `start` on."""
        return self._decode(self._batches.read(epoch, start))

    def close(self) -> None:
        """End the threads."""
        self._batches.close()
        self._ahead.shutdown(cancel_futures=True)
        self._crops.close()

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
        pixels = out.numpy()
        reasons = self._crops.decode(batch, pixels)
        if batch.operations is not None:
            self._augment(pixels, batch.operations, batch.size)
        pixels[[*reasons, *batch.unread]] = GRAY
        return out, reasons

    def _augment(self, pixels: NDArray[np.uint8], operations: ImageDraws, size: int) -> None:
        """Apply the operations to all images, in place."""
        if operations.mixed is None:
            calls = kernel_calls(operations.chain, size)
            if not np.any(calls.codes == Kernel.GAUSSIAN_BLUR_23):
                if calls.codes.any():
                    apply_operations(self._crops.threads, pixels, *calls, self._fill)
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
