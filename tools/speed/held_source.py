"""A source whose samples lie in memory: what is left of loading without reading."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.source import Sample, Source


class HeldSource:
    """Some samples of another source, read once, as a `pipeline.formats.source.Source`."""

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        """Read the samples at `indices`.

        Raises:
            DataError: if one cannot be read.
        """
        self._source = source
        self._indices = indices
        # Pixels of a mapped file would be read when they are used.
        self._samples = [s._replace(data=s.data.copy()) for s in source.read_many(indices)]

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the whole source."""
        return self._source.classes

    @property
    def labels(self) -> NDArray[np.integer]:
        """Of the samples held."""
        return self._source.labels[self._indices]

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """One shard."""
        return (len(self),)

    @property
    def storage_order(self) -> NDArray[np.int64]:
        """As held."""
        return np.arange(len(self))

    def __len__(self) -> int:
        return len(self._samples)

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Sample]:
        """Return samples by their place here."""
        return [self._samples[int(index)] for index in indices]

    def describe(self, index: int) -> str:
        """Where the sample came from."""
        return self._source.describe(int(self._indices[index]))

    def key(self, index: int) -> str:
        """As `Source.key`."""
        return self._samples[index].key
