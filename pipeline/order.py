"""Which sample comes when: a pure function of (seed, epoch, position).

So a resumed run needs one integer, the number of the next batch, and a change of the number of
ranks changes nothing: batch b of rank r is block b * world_size + r of the epoch's order, whatever
the accumulation. An optimizer step thus covers one contiguous stretch of the order, and neighbours
(position xor 1), which pair mixing joins, share a micro-batch whenever the batch size is even.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.counter import Stream, random_bits

NO_SAMPLE = -1
"""Stands in the place of a sample where the last evaluation batches are padded."""
_DRAW_UNIT = 2**40
"""Draw r of a sample has the number sample + r * this."""


def epoch_order(
    shard_sizes: Sequence[int], *, seed: int, epoch: int, window: int
) -> NDArray[np.int64]:
    """Return the samples of an epoch in the order of their use.

    Args:
        shard_sizes: samples of each shard.
        seed: of the run.
        epoch: counted from 0.
        window: 0 shuffles all samples together. Otherwise shards are permuted, taken `window` at a
            time, and samples are shuffled within those; so few shards are being read at a time.

    Returns:
        A permutation of all sample numbers; with a window they count through the shards in turn,
        that is, in storage order.
    """
    sizes = np.asarray(shard_sizes, np.int64)
    keys = _sort_keys(Stream.ORDER, int(sizes.sum()), seed=seed, epoch=epoch)
    if window == 0 or window >= len(sizes):
        return np.argsort(keys, kind="stable")
    turn = np.empty(len(sizes), np.int64)
    shards = np.argsort(_sort_keys(Stream.SHARDS, len(sizes), seed=seed, epoch=epoch))
    turn[shards] = np.arange(len(sizes))
    return np.lexsort((keys, np.repeat(turn // window, sizes)))


def repeated(order: NDArray[np.int64], *, repeats: int, global_size: int) -> NDArray[np.int64]:
    """Return as many draws as there are samples, with `repeats` of each sample that comes up.

    The epoch's order with each sample repeated in place, cut to its length, as DeiT's sampler has
    it (Touvron et al. 2021). Within each optimizer step all first draws then come first, so that
    neighbours, and the images of a rank, are different ones.

    Args:
        order: from `epoch_order`.
        repeats: draws of each sample.
        global_size: images of an optimizer step.

    Returns:
        Numbers of draws; `sample_of` gives the samples. First draws have the number of the sample.
    """
    if repeats == 1:
        return order
    position = np.arange(len(order))
    draw = position % repeats
    turn = np.lexsort((position, draw, position // global_size))
    return (order[position // repeats] + draw * _DRAW_UNIT)[turn]


def sample_of(draws: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sample of each draw; `NO_SAMPLE` stays."""
    return np.where(draws < 0, draws, draws % _DRAW_UNIT)


def repeat_of(draws: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which of its sample's draws each one is, from 0."""
    return draws // _DRAW_UNIT


def num_rank_batches(
    num_samples: int, *, world_size: int, batch_size: int, accumulation: int = 1, pad: bool = False
) -> int:
    """Return how many micro-batches each rank gets; the same for all ranks.

    Without padding only whole optimizer steps count, of world_size * batch_size * accumulation
    samples; the tail is dropped. With padding the last batch of all is filled up.
    """
    if pad:
        return -(-num_samples // (world_size * batch_size))
    return num_samples // (world_size * batch_size * accumulation) * accumulation


def rank_batches(
    order: NDArray[np.int64],
    *,
    rank: int,
    world_size: int,
    batch_size: int,
    accumulation: int = 1,
    start: int = 0,
    pad: bool = False,
) -> Iterator[NDArray[np.int64]]:
    """Yield the (batch_size,) samples of each micro-batch of `rank`, from batch `start` on.

    Args:
        order: from `epoch_order`, or any other sequence of samples.
        rank: in [0, world_size).
        world_size: number of ranks.
        batch_size: samples of a micro-batch.
        accumulation: micro-batches of an optimizer step.
        start: the first batch to yield.
        pad: fill the last batches with `NO_SAMPLE` (evaluation) rather than drop the tail.

    Raises:
        ValueError: if `rank` or `start` is out of range.
    """
    count = num_rank_batches(
        len(order),
        world_size=world_size,
        batch_size=batch_size,
        accumulation=accumulation,
        pad=pad,
    )
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
    if not 0 <= start <= count:
        raise ValueError(f"start must be in [0, {count}], the batches of an epoch, got {start}")
    return _blocks(
        order, range(rank + start * world_size, count * world_size, world_size), batch_size
    )


def _blocks(
    order: NDArray[np.int64], blocks: range, batch_size: int
) -> Iterator[NDArray[np.int64]]:
    for block in blocks:
        samples = order[block * batch_size : (block + 1) * batch_size]
        missing = batch_size - len(samples)
        yield np.pad(samples, (0, missing), constant_values=NO_SAMPLE) if missing else samples


def _sort_keys(stream: Stream, count: int, *, seed: int, epoch: int) -> NDArray[np.uint64]:
    samples = np.arange(count)
    return random_bits(stream, seed=seed, epoch=epoch, samples=samples, count=1)[:, 0]
