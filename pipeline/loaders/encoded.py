"""Encoded batches: which samples a batch holds, read ahead, with their crops drawn.

All that a loader promises about order, elasticity, length, coverage and unreadable samples is kept
here, once; the loaders only turn encoded images into pixels.
"""

import math
import os
import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.config import AugmentConfig
from pipeline.augment.crop_draws import Crops, crops
from pipeline.augment.image_draws import ImageDraws, image_augmentation, image_draws
from pipeline.batch import IGNORE_LABEL, Placement
from pipeline.config import CropConfig, DataConfig, InputSpec
from pipeline.counter import DrawKey
from pipeline.errors import DataError
from pipeline.formats.source import FollowsOrder, Sample, Source
from pipeline.loaders.bad_images import BadImages, Report
from pipeline.loaders.look_ahead import look_ahead
from pipeline.loaders.storage_threads import StorageThreads
from pipeline.order import (
    NO_SAMPLE,
    epoch_order,
    num_rank_batches,
    rank_batches,
    repeated,
    sample_of,
)
from pipeline.words import counted

_READ_AHEAD = 4
"""Batches being read, each by a thread of its own, so that slow storage has requests queued."""
GRAY = 128
"""Value of the pixels that stand in for an image."""
_PADDING = Sample("", np.full((1, 1, 3), GRAY, np.uint8), IGNORE_LABEL, width=1, height=1)


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """One micro-batch of one rank, not yet decoded.

    Attributes:
        draws: (B,) numbers of the draws (`order.sample_of`), `NO_SAMPLE` where padded.
        samples: B samples; a gray pixel with `IGNORE_LABEL` where padded.
        size: height and width that the images are to have.
        crops: None in evaluation.
        operations: what is done to each image after its crop; None in evaluation.
        unread: why a sample could not be read and is gray instead, by position.
        error: why nothing could be read; all samples are padding then.
        epoch: that the batch belongs to.
    """

    draws: NDArray[np.int64]
    samples: list[Sample]
    size: int
    crops: Crops | None = None
    operations: ImageDraws | None = None
    unread: dict[int, str] = field(default_factory=dict)
    error: DataError | None = None
    epoch: int = 0

    @property
    def labels(self) -> NDArray[np.int64]:
        """(B,) class indices."""
        return np.array([sample.label for sample in self.samples], np.int64)

    def single(self, position: int) -> "EncodedBatch":
        """Return the batch of the one sample at `position`."""
        only = slice(position, position + 1)
        return EncodedBatch(
            self.draws[only],
            self.samples[only],
            self.size,
            None if self.crops is None else self.crops.rows(only),
            None if self.operations is None else self.operations.rows(only),
        )


@dataclass(slots=True)
class _Reading:
    """How far a thread is with a batch: the sample that it waits for, and since when."""

    epoch: int
    draws: NDArray[np.int64]
    sample: int
    since: float = math.inf

    def begin(self, sample: int) -> None:
        self.sample, self.since = sample, time.monotonic()


class EncodedBatches:
    """The encoded batches of one rank.

    Attributes:
        source: the samples.
        data: how they are read.
        augmentation: what is done to single training images; it knows the fill colour.
        training: shuffled and augmented.
        batch_size: images of a micro-batch.
        batches_per_epoch: micro-batches of this rank.
    """

    def __init__(
        self,
        source: Source,
        *,
        data: DataConfig,
        augment: AugmentConfig,
        spec: InputSpec,
        batch_size: int,
        accumulation: int,
        placement: Placement,
        seed: int,
        training: bool,
        chosen: NDArray[np.int64] | None = None,
        report: Report | None = None,
    ) -> None:
        """Take the arguments of `build_loader`."""
        self.source = source
        self.data = data
        self.augmentation = image_augmentation(augment, data.crop, spec)
        self.batch_size = batch_size
        self._chosen = chosen
        self.batches_per_epoch = num_rank_batches(
            len(source) if chosen is None else len(chosen),
            world_size=placement.world_size,
            batch_size=batch_size,
            accumulation=accumulation,
            pad=not training,
        )
        if training and self.batches_per_epoch == 0:
            raise ValueError(
                f"the training set has {counted(len(source), 'image')}, fewer than one optimizer"
                " step takes:"
                f" {counted(placement.world_size, 'rank')} x {batch_size} per_gpu x {accumulation}"
                " accumulated; make the batch smaller"
            )
        self._augment = augment
        self._spec = spec
        self._accumulation = accumulation
        self._placement = placement
        self._seed = seed
        self.training = training
        self._bad = BadImages(source, data, report)
        self._threads = StorageThreads(_READ_AHEAD)
        self._stall: DataError | None = None

    @property
    def threads(self) -> int:
        """Threads that decode for this rank."""
        if self.data.threads:
            return self.data.threads
        return max(1, len(os.sched_getaffinity(0)) // self._placement.local_size)

    def read(self, epoch: int, start: int) -> Generator[EncodedBatch]:
        """Yield the batches of `epoch` from batch `start` on; an error is handed over in place.

        Raises:
            ValueError: if `start` is not within the epoch.
        """
        order = self._order(epoch)
        blocks = rank_batches(
            order,
            rank=self._placement.rank,
            world_size=self._placement.world_size,
            batch_size=self.batch_size,
            accumulation=self._accumulation,
            start=start,
            pad=not self.training,
        )
        rest = order[start * self.batch_size * self._placement.world_size :]
        return self._read_ahead(epoch, blocks, sample_of(rest))

    def replace_or_raise(self, batch: EncodedBatch, reasons: dict[int, str]) -> int:
        """Decide about images that cannot be decoded; return how many gray ones replace them.

        Args:
            batch: that they belong to.
            reasons: what is wrong, by position in the batch.

        Raises:
            DataError: naming them, unless they are to be replaced, or if they are too many.
        """
        samples = sample_of(batch.draws)
        reasons = {place: f"cannot be decoded: {why}" for place, why in reasons.items()}
        self._bad.refuse(samples, reasons)
        return self._bad.note(samples, reasons, epoch=batch.epoch)

    def note_unread(self, batch: EncodedBatch) -> int:
        """Report what could not be read; return how many gray images replace it.

        Raises:
            DataError: if there are too many of them.
        """
        return self._bad.note(sample_of(batch.draws), batch.unread, epoch=batch.epoch)

    def close(self) -> None:
        """End the reading threads; those that storage does not answer are left behind."""
        self._threads.close(wait=self._stall is None)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._chosen is not None:
            return self._chosen
        if not self.training:
            order = np.arange(len(self.source))
            return self.source.storage_order[order] if self.data.window else order
        return training_order(
            self.source,
            window=self.data.window,
            repeats=self._augment.repeats,
            global_size=self.batch_size * self._accumulation * self._placement.world_size,
            seed=self._seed,
            epoch=epoch,
        )

    def _read_ahead(
        self, epoch: int, blocks: Iterable[NDArray[np.int64]], order: NDArray[np.int64]
    ) -> Generator[EncodedBatch]:
        begun = (self._begin(epoch, draws) for draws in blocks)
        reading = look_ahead(begun, _READ_AHEAD, self._waited_for)
        with _following(self.source, order), closing(reading) as read:
            for _, (batch,) in read:
                yield batch

    def _begin(
        self, epoch: int, draws: NDArray[np.int64]
    ) -> tuple[_Reading, list[Future[EncodedBatch]]]:
        at = _Reading(epoch, draws, int(sample_of(draws)[0]))
        return at, [self._threads.submit(partial(self._read, at))]

    def _waited_for(self, at: _Reading, future: Future[EncodedBatch]) -> EncodedBatch:
        """Return the batch that is read, or one with an error when storage does not answer."""
        asked = time.monotonic()
        while not future.done() and self._stall is None:
            begun = asked if at.since == math.inf else at.since
            left = begun + self.data.timeout_s - time.monotonic()
            if left > 0:
                wait([future], timeout=left)
            else:
                self._stall = DataError(
                    f"{self.source.describe(at.sample)}: the disk or server has not delivered this"
                    f" image for {self.data.timeout_s:g} s; see whether it works, or raise"
                    " data.timeout_s if it is only slow"
                )
        return future.result() if future.done() else replace(self._batch(at, []), error=self._stall)

    def _read(self, at: _Reading) -> EncodedBatch:
        samples, unread = list[Sample](), dict[int, str]()
        for place, index in enumerate(sample_of(at.draws[at.draws != NO_SAMPLE]).tolist()):
            at.begin(index)
            try:
                samples += self.source.read_many([index])
            except DataError as error:
                if self.data.on_error == "raise":
                    return replace(self._batch(at, []), error=error)
                unread[place] = str(error)
                samples.append(_PADDING._replace(label=int(self.source.labels[index])))
        return replace(self._batch(at, samples), unread=unread)

    def _batch(self, at: _Reading, samples: Sequence[Sample]) -> EncodedBatch:
        """Return the batch of `samples`, padded, with what is drawn for it."""
        epoch, draws = at.epoch, at.draws
        padded = [*samples, *[_PADDING] * (len(draws) - len(samples))]
        if not self.training:
            return EncodedBatch(draws, padded, self._spec.size, epoch=epoch)
        size = self._augment.size_at(epoch, self._spec.size)
        key: DrawKey = {"seed": self._seed, "epoch": epoch, "samples": draws}
        cropped = crops_of(padded, self.data.crop, key)
        operations = image_draws(self.augmentation, **key, size=size)
        return EncodedBatch(draws, padded, size, cropped, operations, epoch=epoch)


def training_order(
    source: Source, *, window: int, repeats: int, global_size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return the draws (`order.sample_of`) of an epoch in the order of their use, over all ranks.

    Args:
        source: the samples.
        window: shards shuffled together; 0: all.
        repeats: draws of each sample that comes up.
        global_size: images of an optimizer step.
        seed: of the run.
        epoch: counted from 0.
    """
    order = epoch_order(source.shard_sizes, seed=seed, epoch=epoch, window=window)
    order = source.storage_order[order] if window else order
    return repeated(order, repeats=repeats, global_size=global_size)


def crops_of(samples: Sequence[Sample], config: CropConfig, key: DrawKey) -> Crops:
    """Return the crops that are drawn for `samples`."""
    return crops(
        config,
        **key,
        widths=np.array([sample.width for sample in samples]),
        heights=np.array([sample.height for sample in samples]),
    )


def _following(source: Source, order: NDArray[np.int64]) -> AbstractContextManager[None]:
    return source.following(order) if isinstance(source, FollowsOrder) else nullcontext()
