"""A source that tells somebody what is read from it; loaders hand on indices only."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.source import FollowsOrder, Sample, Source


class ObservedSource:
    """`source`, with `seen` called for each sample that is read, in the thread that reads it."""

    def __init__(self, source: Source, seen: Callable[[int, Sample], None]) -> None:
        self._source = source
        self._seen = seen
        self.classes = source.classes
        self.labels = source.labels
        self.shard_sizes = source.shard_sizes
        self.storage_order = source.storage_order

    def __len__(self) -> int:
        return len(self._source)

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Sample]:
        """As `Source.read_many`."""
        samples = self._source.read_many(indices)
        for index, sample in zip(indices, samples, strict=True):
            self._seen(int(index), sample)
        return samples

    def describe(self, index: int) -> str:
        """As `Source.describe`."""
        return self._source.describe(index)

    def key(self, index: int) -> str:
        """As `Source.key`."""
        return self._source.key(index)

    def following(self, order: NDArray[np.int64]) -> AbstractContextManager[None]:
        """As `FollowsOrder.following`, where the source does."""
        if isinstance(self._source, FollowsOrder):
            return self._source.following(order)
        return nullcontext()
