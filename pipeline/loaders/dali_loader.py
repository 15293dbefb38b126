"""DALI loader: any source, decoded and resized by a DALI graph, on a CPU or a GPU.

The graph has no random state and no reader: each sample comes with its region of the image, which
follows from the draws. Only that part is decoded, and one resampling gives crop, resize and flip.

`_QUEUE` batches are in the graph at a time, so that decoding goes on while the model trains. An
error in one of them leaves the others alone; that batch is then decoded image by image, to find
out which ones cannot be.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, pipeline_def
from nvidia.dali.types import DALIDataType, DALIImageType, DALIInterpType
from torch import Tensor

from pipeline.batch import Batch, send
from pipeline.config import InputSpec
from pipeline.loaders.encoded import GRAY, EncodedBatch, EncodedBatches
from pipeline.loaders.regions import beyond_the_image, content_of, regions_of

_QUEUE = 2
_INPUTS = {  # name: type and number of dimensions
    "data": (DALIDataType.UINT8, 1),
    "is_raw": (DALIDataType.BOOL, 0),
    "raw_shape": (DALIDataType.INT32, 1),
    "anchor": (DALIDataType.INT32, 1),
    "shape": (DALIDataType.INT32, 1),
    "start": (DALIDataType.FLOAT, 1),
    "end": (DALIDataType.FLOAT, 1),
    "interpolation": (DALIDataType.INT32, 0),
}


class DaliLoader:
    """Decodes with DALI; keeps the contract of `pipeline.batch.Loader`.

    Attributes:
        batches_per_epoch: micro-batches of this rank.
        replaced: images replaced by gray ones so far, since they could not be decoded.
    """

    def __init__(self, batches: EncodedBatches, *, spec: InputSpec, device: torch.device) -> None:
        """Build the graph.

        Args:
            batches: what to decode.
            spec: size of the images, and the evaluation resize.
            device: where the images go; a GPU also decodes them.
        """
        self.batches_per_epoch = batches.batches_per_epoch
        self.replaced = 0
        self._batches = batches
        self._spec = spec
        self._device = device
        self._graph = _Graph(
            spec, batch_size=batches.batch_size, threads=batches.threads, device=device
        )
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

    def _end_epoch(self) -> None:
        if self._epoch is not None:
            self._epoch.close()
            self._epoch = None

    def _decode(self, encoded: Generator[EncodedBatch]) -> Generator[Batch]:
        with closing(encoded), closing(self._graph.run(encoded)) as decoded:
            for batch, decoded_or_error in decoded:
                if batch.error is not None:
                    raise batch.error
                images = decoded_or_error
                if isinstance(images, RuntimeError):
                    images = self._decode_one_by_one(batch, images)
                self.replaced += self._batches.note_unread(batch)
                yield Batch(
                    images=images.permute(0, 3, 1, 2),
                    labels=send(batch.labels, self._device),
                    samples=torch.from_numpy(batch.draws),
                )

    def _decode_one_by_one(self, batch: EncodedBatch, error: RuntimeError) -> Tensor:
        """Return the images of a batch that has failed as a whole."""
        size, reasons = self._spec.size, {}
        shape = (len(batch.samples), size, size, 3)
        images = torch.full(shape, GRAY, dtype=torch.uint8, device=self._device)
        graph = _Graph(self._spec, batch_size=1, threads=1, device=self._device)
        singles = (batch.single(position) for position in range(len(batch.samples)))
        for position, (_, image) in enumerate(graph.run(singles)):
            if isinstance(image, RuntimeError):
                reasons[position] = _reason(image)
            else:
                images[position] = image[0]
        graph.close()
        if not reasons:
            raise error
        self.replaced += self._batches.replace_or_raise(batch, reasons)
        return images


class _Graph:
    """A DALI pipeline that is fed from an iterator of encoded batches."""

    def __init__(
        self, spec: InputSpec, *, batch_size: int, threads: int, device: torch.device
    ) -> None:
        self._spec = spec
        self._device = device
        self._incoming: Iterator[EncodedBatch] = iter(())
        self._inside: deque[EncodedBatch] = deque()
        self._pipe = _build_pipeline(
            self._next_inputs,
            size=spec.size,
            batch_size=batch_size,
            threads=threads,
            device=device,
        )

    def run(
        self, batches: Iterator[EncodedBatch]
    ) -> Generator[tuple[EncodedBatch, Tensor | RuntimeError]]:
        """Yield each batch with its (B, size, size, 3) uint8 images, or with DALI's error."""
        self._incoming = batches
        try:
            while (outputs := self._next_outputs()) is not None:
                yield outputs
        finally:
            self._drain()

    def close(self) -> None:
        """End the graph's threads, which last as long as the pipeline does."""
        with suppress(AttributeError):  # closed before
            del self._pipe

    def _next_outputs(self) -> tuple[EncodedBatch, Tensor | RuntimeError] | None:
        on_gpu = self._device.type == "cuda"
        stream = torch.cuda.current_stream(self._device) if on_gpu else None
        try:
            # On a GPU the outputs belong to the stream that uses them, also when they are freed.
            (images,) = self._pipe.run(stream)
        except StopIteration:
            return None
        except RuntimeError as error:
            return self._inside.popleft(), error
        batch = self._inside.popleft()
        return batch, _with_borders(torch.from_dlpack(images.as_tensor()), batch, self._spec)

    def _drain(self) -> None:
        """Let the graph finish what is in it, errors included, so that it can begin anew."""
        self._incoming = iter(())
        with suppress(StopIteration):
            while True:
                with suppress(RuntimeError):
                    self._pipe.run()
        self._inside.clear()
        self._pipe.reset()

    def _next_inputs(self) -> list[list[NDArray[np.uint8]] | NDArray[np.generic]]:
        batch = next(self._incoming)
        self._inside.append(batch)  # keeps the memory that DALI reads
        return _graph_inputs(batch, self._spec)


def _build_pipeline(
    next_inputs: Callable[[], list[list[NDArray[np.uint8]] | NDArray[np.generic]]],
    *,
    size: int,
    batch_size: int,
    threads: int,
    device: torch.device,
) -> Pipeline:
    on_gpu = device.type == "cuda"

    @pipeline_def(enable_conditionals=True)
    def graph() -> DataNode:
        data, is_raw, raw_shape, anchor, shape, start, end, interpolation = fn.external_source(
            source=next_inputs,
            num_outputs=len(_INPUTS),
            batch=True,
            no_copy=True,
            dtype=[dtype for dtype, _ in _INPUTS.values()],
            ndim=[ndim for _, ndim in _INPUTS.values()],
        )
        region = {"axes": [0, 1], "normalized_anchor": False, "normalized_shape": False}
        if is_raw:  # pyright: ignore[reportGeneralTypeIssues] # DALI makes it split the batch
            pixels = fn.reshape(data, shape=raw_shape, layout="HWC")
            part = fn.slice(pixels.gpu() if on_gpu else pixels, anchor, shape, **region)
        else:
            part = fn.decoders.image_slice(
                data,
                anchor,
                shape,
                **region,
                device="mixed" if on_gpu else "cpu",
                output_type=DALIImageType.RGB,
                adjust_orientation=False,  # as stored: the index has these sizes
                jpeg_fancy_upsampling=True,  # on a GPU too; the CPU and PIL always do
            )
        images = fn.resize(
            part,
            size=[size, size],
            roi_start=start,
            roi_end=end,
            interp_type=fn.reinterpret(interpolation, dtype=DALIDataType.INTERP_TYPE),
            antialias=True,
        )
        return cast("DataNode", images)

    pipeline = graph(
        batch_size=batch_size,
        num_threads=threads,
        device_id=(device.index or 0) if on_gpu else None,
        prefetch_queue_depth=_QUEUE,
    )
    pipeline.build()
    return pipeline


def _graph_inputs(
    batch: EncodedBatch, spec: InputSpec
) -> list[list[NDArray[np.uint8]] | NDArray[np.generic]]:
    """Return what the graph takes, in the order of `_INPUTS`."""
    regions = regions_of(batch.samples, batch.crops, spec)
    if content := content_of(batch.samples, batch.crops, spec):
        regions = beyond_the_image(regions, content, batch.size)
    data = [sample.data for sample in batch.samples]
    codes = np.where(
        regions.bicubic, DALIInterpType.INTERP_CUBIC.value, DALIInterpType.INTERP_LINEAR.value
    )
    return [
        [item.reshape(-1) for item in data],
        np.array([item.ndim == 3 for item in data]),
        np.array([item.shape if item.ndim == 3 else (0, 0, 3) for item in data], np.int32),
        regions.anchor,
        regions.shape,
        regions.start,
        regions.end,
        codes.astype(np.int32),
    ]


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
