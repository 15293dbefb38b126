"""DALI loader: any source, decoded and augmented by a DALI graph, on a CPU or a GPU.

A batch that has failed in the graph is decoded image by image, to find out which ones cannot be.
With `data.decode: cpu` the host's threads make the crops, and the graph does the rest.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.batch import Batch, send
from pipeline.config import InputSpec
from pipeline.loaders.dali_graph import Graph, Inputs, evaluation_plan, training_plan
from pipeline.loaders.encoded import GRAY, EncodedBatch, EncodedBatches
from pipeline.loaders.look_ahead import look_ahead
from pipeline.loaders.regions import content_of

_DECODE_AHEAD = 2
"""Batches that the host decodes beside those in the graph."""


class Crops(Protocol):
    """Makes crops on the host: `host_crops.HostCrops`, which only there is where it is built."""

    def decode(self, batch: EncodedBatch, out: NDArray[np.uint8]) -> dict[int, str]:
        """Write the images to `out`; return why there is none, by position."""
        ...

    def close(self) -> None:
        """End the threads."""
        ...


class _Fed(NamedTuple):
    """A batch in the graph, and why the host could not decode some of its images."""

    batch: EncodedBatch
    reasons: dict[int, str]


class DaliLoader:
    """Decodes with DALI; keeps the contract of `pipeline.batch.Loader`.

    Attributes:
        batches_per_epoch: micro-batches of this rank.
        replaced: images replaced by gray ones so far, since they could not be decoded.
    """

    def __init__(
        self,
        batches: EncodedBatches,
        *,
        spec: InputSpec,
        device: torch.device,
        crops: Crops | None = None,
    ) -> None:
        """Build the graph.

        Args:
            batches: what to decode.
            spec: size of the images, and the evaluation resize.
            device: where the images go; a GPU also augments and decodes them.
            crops: decodes them instead.
        """
        self.batches_per_epoch = batches.batches_per_epoch
        self.replaced = 0
        self._batches = batches
        self._device = device
        self._crops = crops
        decodes = crops is None
        if batches.training:
            shifts = decodes and batches.data.crop.mode == "pad"
            self._plan = training_plan(spec, batches.augmentation, decodes=decodes, shifts=shifts)
        else:
            self._plan = evaluation_plan(spec, decodes=decodes)
        self._graph = Graph(
            self._plan, batch_size=batches.batch_size, threads=batches.threads, device=device
        )
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._epoch: Generator[Batch] | None = None

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from batch `start` on; an earlier iteration ends here."""
        self._end_epoch()
        self._epoch = self._decode(self._batches.read(epoch, start))
        return self._epoch

    def close(self) -> None:
        """Release threads and buffers."""
        self._end_epoch()
        self._graph.close()
        self._batches.close()
        self._ahead.shutdown(cancel_futures=True)
        if self._crops is not None:
            self._crops.close()

    def _end_epoch(self) -> None:
        if self._epoch is not None:
            self._epoch.close()
            self._epoch = None

    def _decode(self, encoded: Generator[EncodedBatch]) -> Generator[Batch]:
        inside: deque[_Fed] = deque()
        with (
            closing(encoded),
            closing(self._inputs(encoded, inside)) as inputs,
            closing(self._graph.run(inputs)) as decoded,
        ):
            for images_or_error in decoded:
                yield self._collect(*inside.popleft(), images_or_error)

    def _inputs(self, encoded: Generator[EncodedBatch], inside: deque[_Fed]) -> Generator[Inputs]:
        """Yield what the graph takes of each batch, and put that batch to those in the graph."""
        if self._crops is None:
            for batch in encoded:
                inside.append(_Fed(batch, {}))
                yield self._plan.inputs(batch)
            return
        begun = ((batch, [self._begin(self._crops, batch)]) for batch in encoded)
        with closing(look_ahead(begun, _DECODE_AHEAD)) as decoded:
            for batch, ((pixels, reasons),) in decoded:
                inside.append(_Fed(batch, reasons))
                yield self._plan.inputs(batch, pixels)

    def _begin(
        self, crops: Crops, batch: EncodedBatch
    ) -> Future[tuple[NDArray[np.uint8], dict[int, str]]]:
        def decode() -> tuple[NDArray[np.uint8], dict[int, str]]:
            pixels = np.full((len(batch.samples), batch.size, batch.size, 3), GRAY, np.uint8)
            return pixels, crops.decode(batch, pixels) if batch.error is None else {}

        return self._ahead.submit(decode)

    def _collect(
        self, batch: EncodedBatch, reasons: dict[int, str], images: Tensor | RuntimeError
    ) -> Batch:
        if batch.error is not None:
            raise batch.error
        if isinstance(images, RuntimeError):
            if self._crops is not None:
                raise images
            images, reasons = self._decode_one_by_one(batch, images)
        if self._crops is None:
            images = _with_borders(images, batch, self._plan.spec)
        self.replaced += self._batches.note_unread(batch)
        self.replaced += self._batches.replace_or_raise(batch, reasons)
        if missing := [*reasons, *batch.unread]:
            images[missing] = GRAY
        return Batch(
            images=images.permute(0, 3, 1, 2),
            labels=send(batch.labels, self._device),
            samples=torch.from_numpy(batch.draws),
        )

    def _decode_one_by_one(
        self, batch: EncodedBatch, error: RuntimeError
    ) -> tuple[Tensor, dict[int, str]]:
        """Return the images of a batch that has failed as a whole, and why some are missing."""
        size, reasons = batch.size, dict[int, str]()
        shape = (len(batch.samples), size, size, 3)
        images = torch.full(shape, GRAY, dtype=torch.uint8, device=self._device)
        graph = Graph(self._plan, batch_size=1, threads=1, device=self._device)
        singles = (
            self._plan.inputs(batch.single(position)) for position in range(len(batch.samples))
        )
        for position, image in enumerate(graph.run(singles)):
            if isinstance(image, RuntimeError):
                reasons[position] = _reason(image)
            else:
                images[position] = image[0]
        graph.close()
        if not reasons:
            raise error
        return images, reasons


def _with_borders(images: Tensor, batch: EncodedBatch, spec: InputSpec) -> Tensor:
    """Return (B, size, size, 3) images with the mean colour around what they fill."""
    content, device = content_of(batch.samples, batch.crops, spec), images.device
    if content is None:
        return images
    places = torch.arange(batch.size, device=device)
    corner, shape = send(content.corner, device), send(content.shape, device)
    first, end = corner[:, :, None], (corner + shape)[:, :, None]
    rows, columns = ((places >= first) & (places < end)).unbind(dim=1)  # (B, size) each
    is_image = rows[:, :, None, None] & columns[:, None, :, None]
    return torch.where(is_image, images, send(np.array(spec.mean_colour, np.uint8), device))


def _reason(error: RuntimeError) -> str:
    """Return the cause; DALI's message is mostly about the graph's definition."""
    cause = str(error).partition("encountered:")[2].partition("Current pipeline")[0]
    return f"damaged, cut off, or not of the listed size (DALI: {' '.join(cause.split())})"
