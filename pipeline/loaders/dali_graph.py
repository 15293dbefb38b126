"""DALI's graph: decoding, cropping, resizing and augmenting a batch, on a CPU or a GPU.

The graph has no random state and no reader: each sample comes with its region of the image and
with its operations, which follow from the draws. Only that region is decoded, and one resampling
gives crop, resize and flip. Images that the host has cropped already are only augmented.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, pipeline_def
from nvidia.dali.types import DALIDataType, DALIImageType, DALIInterpType
from torch import Tensor

from pipeline.augment.image_draws import ImageAugmentation, image_draws
from pipeline.config import InputSpec
from pipeline.loaders.dali_inputs import Places, places_of
from pipeline.loaders.dali_operations import augmented
from pipeline.loaders.encoded import EncodedBatch
from pipeline.loaders.regions import beyond_the_image, content_of, regions_of

_QUEUE = 2
_PIXELS = ("pixels",)
_ENCODED = (
    "data",
    "is_raw",
    "raw_shape",
    "anchor",
    "shape",
    "start",
    "end",
    "interpolation",
    "side",
)

Inputs = dict[str, Sequence[NDArray[np.uint8]] | NDArray[np.generic]]
"""What the graph takes of a batch, by name; the first axis is that of the B samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphPlan:
    """What a graph does.

    Attributes:
        spec: the evaluation resize.
        decodes: images come encoded, rather than as the pixels of their crops.
        shifts: crops are shifted within black (`data.crop.mode: pad`).
        places: operations on single images; None in evaluation.
        fill: the colour of what comes from outside an image then.
        names: of all inputs.
    """

    spec: InputSpec
    decodes: bool
    shifts: bool
    places: Places | None
    fill: tuple[int, int, int]
    names: tuple[str, ...]

    def inputs(self, batch: EncodedBatch, pixels: NDArray[np.uint8] | None = None) -> Inputs:
        """Return the inputs for a batch.

        Args:
            batch: encoded.
            pixels: (B, size, size, 3) crops of its images, if they are decoded.
        """
        inputs: Inputs = {"pixels": pixels} if pixels is not None else {}
        if self.decodes:
            inputs = _encoded_inputs(batch, self.spec)
        if self.shifts:
            assert batch.crops is not None
            inputs["shift"] = batch.crops.shifts.astype(np.int32)
        if self.places is not None:
            assert batch.operations is not None
            inputs |= self.places.arrays(batch.operations, batch.size)
        return inputs


def training_plan(
    spec: InputSpec, augmentation: ImageAugmentation, *, decodes: bool, shifts: bool
) -> GraphPlan:
    """Return the plan of a graph for training; the arguments are as in `GraphPlan`."""
    places = places_of(augmentation)
    names = (*(_ENCODED if decodes else _PIXELS), *(("shift",) if shifts else ()))
    any_sample = np.zeros(1, np.int64)
    draws = image_draws(augmentation, seed=0, epoch=0, samples=any_sample, size=spec.size)
    return GraphPlan(
        spec=spec,
        decodes=decodes,
        shifts=shifts,
        places=places,
        fill=augmentation.fill,
        names=(*names, *places.arrays(draws, spec.size)),
    )


def evaluation_plan(spec: InputSpec, *, decodes: bool) -> GraphPlan:
    """Return the plan of a graph for evaluation."""
    return GraphPlan(
        spec=spec,
        decodes=decodes,
        shifts=False,
        places=None,
        fill=(0, 0, 0),
        names=_ENCODED if decodes else _PIXELS,
    )


class Graph:
    """A DALI pipeline that is fed from an iterator.

    `_QUEUE` batches are in it at a time, so that decoding goes on while the model trains. An error
    in one of them leaves the others alone.
    """

    def __init__(
        self, plan: GraphPlan, *, batch_size: int, threads: int, device: torch.device
    ) -> None:
        self._names = plan.names
        self._device = device
        self._incoming: Iterator[Inputs] = iter(())
        self._inside: deque[Inputs] = deque()
        self._used: Inputs = {}
        self._pipe = define(
            plan, self._next_inputs, batch_size=batch_size, threads=threads, device=device
        )
        self._pipe.build()

    def run(self, incoming: Iterator[Inputs]) -> Generator[Tensor | RuntimeError]:
        """Yield the (B, size, size, 3) uint8 images of each batch, or DALI's error."""
        self._incoming = incoming
        try:
            while (outputs := self._next_outputs()) is not None:
                yield outputs
        finally:
            self._drain()

    def close(self) -> None:
        """End the graph's threads, which last as long as the pipeline does."""
        with suppress(AttributeError):  # closed before
            del self._pipe

    def _next_outputs(self) -> Tensor | RuntimeError | None:
        on_gpu = self._device.type == "cuda"
        stream = torch.cuda.current_stream(self._device) if on_gpu else None
        try:
            # On a GPU the outputs belong to the stream that uses them, also when they are freed.
            (images,) = self._pipe.run(stream)
        except StopIteration:
            return None
        except RuntimeError as error:
            self._inside.popleft()
            return error
        self._used = self._inside.popleft()  # what nothing was done to is still its memory
        return torch.from_dlpack(images.as_tensor())

    def _drain(self) -> None:
        """Let the graph finish what is in it, errors included, so that it can begin anew."""
        self._incoming = iter(())
        with suppress(StopIteration):
            while True:
                with suppress(RuntimeError):
                    self._pipe.run()
        self._inside.clear()
        self._pipe.reset()

    def _next_inputs(self) -> list[Sequence[NDArray[np.uint8]] | NDArray[np.generic]]:
        inputs = next(self._incoming)
        self._inside.append(inputs)  # keeps the memory that DALI reads
        return [inputs[name] for name in self._names]


def define(
    plan: GraphPlan, source: Any, *, batch_size: int, threads: int, device: torch.device
) -> Pipeline:
    """Return the pipeline, not yet built.

    Args:
        plan: what it does.
        source: gives the arrays of `plan.names` for the next batch.
        batch_size: largest number of images.
        threads: of the CPU.
        device: where the images are decoded and augmented.
    """
    on_gpu = device.type == "cuda"

    @pipeline_def(enable_conditionals=True)
    def graph() -> DataNode:
        nodes: Any = fn.external_source(
            source=source, num_outputs=len(plan.names), batch=True, no_copy=True
        )
        inputs = {name: nodes[number] for number, name in enumerate(plan.names)}
        if plan.decodes:
            images = _decoded(inputs, on_gpu=on_gpu)
        else:
            pixels: Any = fn.reshape(inputs["pixels"], layout="HWC")
            inputs["side"] = fn.cast(pixels.shape()[:2], dtype=DALIDataType.INT32)
            images = pixels.gpu() if on_gpu else pixels
        if plan.shifts:
            images = _shifted(images, inputs)
        if plan.places is not None:
            images = augmented(images, inputs, plan.places, fill=plan.fill)
        return cast("DataNode", images)

    return graph(
        batch_size=batch_size,
        num_threads=threads,
        device_id=(device.index or 0) if on_gpu else None,
        prefetch_queue_depth=_QUEUE,
    )


def _decoded(inputs: dict[str, Any], *, on_gpu: bool) -> Any:
    """Return the regions, resampled to squares."""
    region = {"axes": [0, 1], "normalized_anchor": False, "normalized_shape": False}
    data, anchor, shape = inputs["data"], inputs["anchor"], inputs["shape"]
    if inputs["is_raw"]:  # DALI makes it split the batch
        pixels = fn.reshape(data, shape=inputs["raw_shape"], layout="HWC")
        part = cast("Any", fn.slice(pixels, anchor, shape, **region))
        if on_gpu:
            part = part.gpu()
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
    return fn.resize(
        part,
        size=fn.cast(inputs["side"], dtype=DALIDataType.FLOAT),
        roi_start=inputs["start"],
        roi_end=inputs["end"],
        interp_type=fn.reinterpret(inputs["interpolation"], dtype=DALIDataType.INTERP_TYPE),
        antialias=True,
    )


def _shifted(images: Any, inputs: dict[str, Any]) -> Any:
    return fn.slice(
        images,
        start=inputs["shift"],
        shape=inputs["side"],
        axes=[0, 1],
        out_of_bounds_policy="pad",
    )


def _encoded_inputs(batch: EncodedBatch, spec: InputSpec) -> Inputs:
    regions = regions_of(batch.samples, batch.crops, spec)
    if content := content_of(batch.samples, batch.crops, spec):
        regions = beyond_the_image(regions, content, batch.size)
    data = [sample.data for sample in batch.samples]
    codes = np.where(
        regions.bicubic, DALIInterpType.INTERP_CUBIC.value, DALIInterpType.INTERP_LINEAR.value
    )
    return {
        "data": [item.reshape(-1) for item in data],
        "is_raw": np.array([item.ndim == 3 for item in data]),
        "raw_shape": np.array(
            [item.shape if item.ndim == 3 else (0, 0, 3) for item in data], np.int32
        ),
        "anchor": regions.anchor,
        "shape": regions.shape,
        "start": regions.start,
        "end": regions.end,
        "interpolation": codes.astype(np.int32),
        "side": np.full((len(data), 2), batch.size, np.int32),
    }
