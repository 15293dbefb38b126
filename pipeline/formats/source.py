"""What a storage format offers: encoded samples by index, and nothing else.

No decoding, no randomness, no torch: any source feeds any loader.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

MAX_CLASSES = 1_000_000
"""More, where labels are numbers, is damage or names taken for numbers."""


class Sample(NamedTuple):
    """One image as stored.

    Attributes:
        key: unique name within the source.
        data: uint8; one-dimensional if encoded (JPEG, PNG, ...), (H, W, 3) if raw RGB pixels.
            Never write to it: it may be a view.
        label: class index.
        width: of the image in pixels, as stored (EXIF orientation is not applied).
        height: likewise.
    """

    key: str
    data: NDArray[np.uint8]
    label: int
    width: int
    height: int


class Source(Protocol):
    """Samples by index. Safe to call from several threads, and picklable.

    The index of a sample is canonical: samples are numbered by (label, key) in every format,
    wherever they lie in storage. So the order and the draws of a run, which are functions of the
    index, are the same for a folder, for the shards made from it and for a .beton file.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names (WordNet ids), sorted; the position is the label."""
        ...

    @property
    def labels(self) -> NDArray[np.integer]:
        """Class index of each sample; known even if the sample cannot be read."""
        ...

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples of each shard in storage order; one entry for formats without shards."""
        ...

    @property
    def storage_order(self) -> NDArray[np.int64]:
        """Canonical index of the i-th sample in storage, shard by shard; a permutation.

        Only an epoch order with a window of shards looks at it. A folder's is `arange`.
        """
        ...

    def __len__(self) -> int: ...

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Sample]:
        """Return the samples at `indices`, in that order.

        Raises:
            DataError: naming file and key, if a sample cannot be read.
        """
        ...

    def key(self, index: int) -> str:
        """Name of sample `index`; known even if it cannot be read."""
        ...

    def describe(self, index: int) -> str:
        """Where sample `index` lies, for messages: file, and key or offset."""
        ...


@runtime_checkable
class FollowsOrder(Protocol):
    """A source that fetches samples ahead of their use when it knows their order."""

    def following(self, order: NDArray[np.int64]) -> AbstractContextManager[None]:
        """Fetch the samples of `order`, which all ranks together are going to read, ahead.

        Raises:
            DataError: if that order cannot be followed, with the remedy.
        """
        ...
