"""Which sample goes into which shard: a pure function of the sizes and a few options.

So shards are independent: any worker, on any machine, can write any of them, in any order, and the
result is the same. Shuffled once and for all, so that readers that only go through a tar from front
to end see mixed classes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.counter import mixed
from pipeline.storage.tar_writer import BLOCK, RECORD

_SAMPLE_OVERHEAD = 5 * BLOCK
"""Three headers, two label members."""
_JSON_OVERHEAD = 2 * BLOCK
"""Its header, and its content if keys and classes have ordinary lengths."""

_WINDOW_BYTES = 128_000_000
"""Half of what `prepare.layouts.row_groups` keeps: a window and one more block fit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanConfig:
    """How samples are laid out. Exactly one of the two limits holds."""

    order: Literal["shuffled", "kept"] = "shuffled"
    """`kept` is canonical order: class after class."""
    shard_bytes: int = 256_000_000
    """A shard is closed with the sample that reaches this size; 0 if samples are counted."""
    shard_samples: int = 0
    """Samples of each shard but the last; 0 if bytes are counted."""

    def __post_init__(self) -> None:
        if min(self.shard_bytes, self.shard_samples) < 0 or not (
            (self.shard_bytes > 0) ^ (self.shard_samples > 0)
        ):
            raise ValueError(
                "the size of a shard is either a number of bytes or a number of samples, got"
                f" {self.shard_bytes} bytes and {self.shard_samples} samples"
            )


@dataclass(frozen=True)
class Plan:
    """Entries of a scan in storage order, cut into shards.

    Attributes:
        order: (N,) int64, entries in the order in which they are stored.
        starts: (S + 1,) int64; shard s holds `order[starts[s]:starts[s + 1]]`.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self.starts) - 1

    def entries(self, shard: int) -> NDArray[np.int64]:
        """Entries of one shard, in storage order."""
        return self.order[self.starts[shard] : self.starts[shard + 1]]


def plan_shards(
    sizes: NDArray[np.int64], config: PlanConfig, blocks: NDArray[np.int64] | None = None
) -> Plan:
    """Lay out entries of `sizes` bytes.

    Args:
        sizes: (N,) of the entries.
        config: the options.
        blocks: (N,) numbers from 0: entries with the same one are cheap to read together. Then
            blocks are shuffled, and entries within windows of them.
    """
    order = np.arange(len(sizes))
    if config.order == "shuffled":
        # Not numpy's shuffle: its stream may change between versions, shards must not.
        turns = mixed(order.astype(np.uint64))
        windows = np.zeros(len(sizes)) if blocks is None else _windows(sizes, blocks)
        order = np.lexsort((turns, windows))
    if config.shard_samples:
        starts = np.arange(0, len(sizes), config.shard_samples)
    else:
        ends = np.cumsum(_stored_sizes(sizes[order]))
        starts = _starts_by_bytes(ends, config.shard_bytes)
    return Plan(order, np.append(starts, len(sizes)))


def _windows(sizes: NDArray[np.int64], blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The window of each entry: whole blocks, in shuffled order, of `_WINDOW_BYTES` or one more."""
    block_bytes = np.bincount(blocks, weights=sizes)
    order = np.argsort(mixed(np.arange(len(block_bytes), dtype=np.uint64)), kind="stable")
    before = np.cumsum(block_bytes[order]) - block_bytes[order]
    windows = np.empty(len(block_bytes), np.int64)
    windows[order] = before // _WINDOW_BYTES
    return windows[blocks]


def _starts_by_bytes(ends: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Cut where the running size since the last cut reaches `limit`."""
    starts = [0]
    while True:
        before = ends[starts[-1] - 1] if starts[-1] else 0
        last = int(np.searchsorted(ends, before + limit))
        if last >= len(ends) - 1:
            return np.array(starts, np.int64)
        starts.append(last + 1)


def shard_bytes(sizes: NDArray[np.int64], *, json_member: bool = False) -> int:
    """Return the size of a tar of images of `sizes` bytes."""
    content = int(_stored_sizes(sizes).sum()) + 2 * BLOCK
    content += len(sizes) * _JSON_OVERHEAD * json_member
    return content + -content % RECORD


def _stored_sizes(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return (sizes + BLOCK - 1) // BLOCK * BLOCK + _SAMPLE_OVERHEAD
