"""What a model says of each image of a data set, every image once on any number of ranks.

A few numbers for each image come together on rank 0; every figure and report is made of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.augment.batches import BatchTransform
from pipeline.augment.config import AugmentConfig
from pipeline.batch import IGNORE_LABEL, Loader, Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.formats.observed_source import ObservedSource
from pipeline.formats.source import Source
from pipeline.loaders.build import build_loader
from tools.trained.classes import ClassMap
from trainer.process.world import World

TOP = 5


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One row an image, in the order of the data set.

    Attributes:
        keys: names of the samples.
        labels: (N,) int64, the output that is right.
        top: (N, K) int64, the outputs with the highest probabilities, the highest first; K is
            `TOP`, or the number of outputs that compete if that is smaller.
        probabilities: (N, K) float32, of these.
        losses: (N,) float32, cross-entropy with the label.
    """

    keys: list[str]
    labels: NDArray[np.int64]
    top: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    losses: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How images are read and predicted."""

    batch_size: int = 64
    loader: Literal["auto", "host", "dali", "reference"] = "auto"
    amp: torch.dtype | None = None
    """Autocast to this; None computes in float32."""
    flip: bool = False
    """Mean of the logits of each image and of its mirror image."""


def predict_split(
    model: nn.Module,
    source: Source,
    *,
    spec: InputSpec,
    classes: ClassMap,
    setting: Setting,
    world: World,
    advance: Callable[[int], None],
) -> Predictions | None:
    """Predict all of `source`; the whole on rank 0, None elsewhere (collective).

    Raises:
        DataError: if an image cannot be read; it names it.
    """
    model = model.to(world.device).to(memory_format=torch.channels_last)
    seen: dict[int, str] = {}
    remembering = ObservedSource(source, lambda index, sample: seen.update({index: sample.key}))
    loader = build_loader(
        remembering,
        data=DataConfig(loader=setting.loader),
        augment=AugmentConfig(),
        spec=spec,
        batch_size=setting.batch_size,
        accumulation=1,
        placement=Placement(
            rank=world.rank,
            world_size=world.world_size,
            local_size=world.local_size,
            device=world.device,
        ),
        seed=0,
        training=False,
    )
    with closing(loader):
        rows = list(_rows(model, loader, spec, classes, setting, advance))
    mine = [torch.cat(column).cpu().numpy() for column in zip(*rows, strict=True)]
    keys = [seen[int(index)] for index in mine[0]]
    parts: list[object] = [None] * world.world_size
    dist.gather_object((keys, mine), parts if world.is_main else None)
    return _joined(parts, len(source)) if world.is_main else None


@torch.inference_mode()
def _rows(
    model: nn.Module,
    loader: Loader,
    spec: InputSpec,
    classes: ClassMap,
    setting: Setting,
    advance: Callable[[int], None],
) -> Iterator[tuple[Tensor, ...]]:
    """Sample indices, labels, top outputs, their probabilities and the loss, batch by batch."""
    transform = BatchTransform(AugmentConfig(), spec=spec, num_classes=1, seed=0)
    outputs = among = None
    for batch in loader.batches(0):
        device = batch.images.device
        if outputs is None or among is None:
            outputs = torch.from_numpy(classes.outputs).to(device)
            among = torch.from_numpy(classes.chosen_among).to(device)
        is_real = batch.labels != IGNORE_LABEL
        labels = outputs[batch.labels.clamp(min=0)]
        logits = torch.full((len(labels), classes.num_outputs), -torch.inf, device=device)
        images = transform.evaluate(batch)
        logits[:, among] = _logits(model, images, setting)[:, among]
        log_probabilities = logits.log_softmax(1)
        best = log_probabilities.topk(min(TOP, len(among)), dim=1)
        losses = -log_probabilities.gather(1, labels[:, None])[:, 0]
        samples = batch.samples.to(device)
        columns = (samples, labels, best.indices, best.values.exp(), losses)
        yield tuple(column[is_real].clone() for column in columns)
        advance(len(labels))


def _logits(model: nn.Module, images: Tensor, setting: Setting) -> Tensor:
    """(B, K) float32."""
    with autocast(images.device, setting.amp):
        logits = model(images).float()
        if setting.flip:
            logits = (logits + model(images.flip(3)).float()) / 2
    return logits


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Computing in `dtype` where that is safe; in float32 if it is None."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _joined(parts: Sequence[object], count: int) -> Predictions:
    keys: list[str] = []
    columns: list[list[NDArray[np.generic]]] = []
    for part in parts:
        assert isinstance(part, tuple)
        keys += part[0]
        columns.append(part[1])
    indices, labels, top, probabilities, losses = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    order = np.argsort(indices)
    assert np.array_equal(indices[order], np.arange(count)), "a sample is missing or there twice"
    return Predictions(
        keys=[keys[i] for i in order],
        labels=labels[order].astype(np.int64),
        top=top[order].astype(np.int64),
        probabilities=probabilities[order].astype(np.float32),
        losses=losses[order].astype(np.float32),
    )
