"""Encoded batches: which samples a batch holds, read ahead, with their crops drawn.

All that a loader promises about order, elasticity, length, coverage and unreadable samples is kept
here, once; the loaders only turn encoded images into pixels.
"""

import logging
import os
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass

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
from pipeline.loaders.look_ahead import look_ahead
from pipeline.order import (
    NO_SAMPLE,
    epoch_order,
    num_rank_batches,
    rank_batches,
    repeated,
    sample_of,
)

_log = logging.getLogger(__name__)

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
        replaced: how many samples could not be read and are gray instead.
        error: why nothing could be read; all samples are padding then.
    """

    draws: NDArray[np.int64]
    samples: list[Sample]
    size: int
    crops: Crops | None = None
    operations: ImageDraws | None = None
    replaced: int = 0
    error: DataError | None = None

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
                f"the training set has {len(source)} images, fewer than one optimizer step takes:"
                f" {placement.world_size} ranks x {batch_size} images x {accumulation}"
                " accumulated batches; make the batch smaller"
            )
        self._augment = augment
        self._spec = spec
        self._accumulation = accumulation
        self._placement = placement
        self._seed = seed
        self.training = training
        self._pool = ThreadPoolExecutor(_READ_AHEAD, thread_name_prefix="read-ahead")

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
            DataError: naming them, unless they are to be replaced.
        """
        lines = [
            f"{self.source.describe(int(sample_of(batch.draws)[position]))}"
            f" (key {batch.samples[position].key}): cannot be decoded: {reason}"
            for position, reason in reasons.items()
        ]
        if reasons and self.data.on_error == "raise":
            raise DataError(
                "; ".join(lines) + ". Repair or remove what is named, or set data.on_error to"
                " 'replace', which puts gray images in such places"
            )
        for line in lines:
            _log.warning("%s; a gray image takes its place", line)
        return len(reasons)

    def close(self) -> None:
        """End the reading threads."""
        self._pool.shutdown(cancel_futures=True)

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
        begun = (((), [self._pool.submit(self._read, epoch, draws)]) for draws in blocks)
        with _following(self.source, order), closing(look_ahead(begun, _READ_AHEAD)) as read:
            for _, (batch,) in read:
                yield batch

    def _read(self, epoch: int, draws: NDArray[np.int64]) -> EncodedBatch:
        wanted = sample_of(draws[draws != NO_SAMPLE])
        samples, replaced, error = [], 0, None
        try:
            samples = self.source.read_many(wanted)
        except DataError as unreadable:
            if self.data.on_error == "raise":
                error = unreadable
            else:
                samples, replaced = self._read_one_by_one(wanted)
        samples += [_PADDING] * (len(draws) - len(samples))
        if not self.training:
            return EncodedBatch(draws, samples, self._spec.size, replaced=replaced, error=error)
        size = self._augment.size_at(epoch, self._spec.size)
        key: DrawKey = {"seed": self._seed, "epoch": epoch, "samples": draws}
        cropped = crops_of(samples, self.data.crop, key)
        operations = image_draws(self.augmentation, **key, size=size)
        return EncodedBatch(draws, samples, size, cropped, operations, replaced, error)

    def _read_one_by_one(self, indices: NDArray[np.int64]) -> tuple[list[Sample], int]:
        """Return samples, gray where one cannot be read, and how many are gray."""
        samples = [self._read_or_replace(int(index)) for index in indices]
        return samples, sum(sample.data is _PADDING.data for sample in samples)

    def _read_or_replace(self, index: int) -> Sample:
        try:
            return self.source.read_many([index])[0]
        except DataError as error:
            _log.warning("%s; a gray image takes its place", error)
            return _PADDING._replace(label=int(self.source.labels[index]))


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
