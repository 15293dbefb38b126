"""Properties of the order of samples."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timm.data.distributed_sampler import RepeatAugSampler

from pipeline.order import (
    NO_SAMPLE,
    epoch_order,
    num_rank_batches,
    rank_batches,
    repeated,
    sample_of,
)

SEEDS = st.integers(0, 2**64 - 1)
EPOCHS = st.integers(0, 400)
SHARDS = st.lists(st.integers(0, 30), min_size=1, max_size=12)


def all_rank_batches(order, world_size, **options):
    """(batches, ranks, batch_size): what all ranks together get."""
    ranks = [
        list(rank_batches(order, rank=rank, world_size=world_size, **options))
        for rank in range(world_size)
    ]
    return np.array(ranks).swapaxes(0, 1)


@given(sizes=SHARDS, seed=SEEDS, epoch=EPOCHS, window=st.integers(0, 5))
def test_every_sample_comes_once_per_epoch(sizes, seed, epoch, window):
    order = epoch_order(sizes, seed=seed, epoch=epoch, window=window)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(sum(sizes)))


@given(sizes=SHARDS, seed=SEEDS, epoch=EPOCHS)
def test_a_full_shuffle_does_not_see_the_shards(sizes, seed, epoch):
    order = epoch_order(sizes, seed=seed, epoch=epoch, window=0)
    same = epoch_order([sum(sizes)], seed=seed, epoch=epoch, window=0)
    np.testing.assert_array_equal(order, same)


@given(num_shards=st.integers(1, 20), window=st.integers(1, 6), seed=SEEDS, epoch=EPOCHS)
def test_a_window_is_finished_before_the_next_begins(num_shards, window, seed, epoch):
    order = epoch_order([7] * num_shards, seed=seed, epoch=epoch, window=window)
    shards = order // 7
    for begin in range(0, num_shards, window):
        used = shards[begin * 7 : (begin + window) * 7]
        assert len(set(used)) == min(window, num_shards - begin)


def test_epochs_and_seeds_are_unrelated():
    keys = itertools.product((0, 1, 2**40), (0, 1, 2))
    orders = [epoch_order([5000], seed=seed, epoch=epoch, window=0) for seed, epoch in keys]
    rank_correlation = np.abs(np.corrcoef(orders) - np.eye(len(orders)))
    assert rank_correlation.max() < 5 / np.sqrt(5000)  # five standard deviations


def test_a_full_shuffle_is_uniform_over_permutations():
    counts = {}
    for seed in range(2400):
        order = tuple(epoch_order([4], seed=seed, epoch=3, window=0))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_square < 50  # 23 degrees of freedom: exceeded once in a thousand


def test_neighbours_in_storage_are_torn_apart():
    order = epoch_order([1000] * 20, seed=0, epoch=0, window=4)
    distance = np.abs(np.diff(order)[np.diff(order // 4000) == 0])
    assert np.median(distance) > 500


@given(
    count=st.integers(0, 200),
    batch_size=st.integers(1, 6),
    split=st.sampled_from([(1, 4), (2, 2), (4, 1)]),
)
def test_an_optimizer_step_is_the_same_stretch_however_it_is_split(count, batch_size, split):
    world_size, accumulation = split
    order = epoch_order([count], seed=1, epoch=2, window=0)
    micro = all_rank_batches(order, world_size, batch_size=batch_size, accumulation=accumulation)
    step = 4 * batch_size
    expected = order[: count // step * step].reshape(-1, step)
    got = micro.reshape(-1, accumulation, world_size, batch_size).reshape(-1, step)
    np.testing.assert_array_equal(got, expected)


@given(count=st.integers(0, 120), half=st.integers(1, 4), world_size=st.integers(1, 5))
def test_neighbours_share_a_micro_batch(count, half, world_size):
    order = np.arange(count)
    for batch in all_rank_batches(order, world_size, batch_size=2 * half).reshape(-1, 2 * half):
        np.testing.assert_array_equal(batch[0::2] ^ 1, batch[1::2])


@given(count=st.integers(0, 100), world_size=st.integers(1, 5), batch_size=st.integers(1, 7))
def test_padding_covers_every_sample_once(count, world_size, batch_size):
    order = epoch_order([count], seed=0, epoch=0, window=0)
    batches = all_rank_batches(order, world_size, batch_size=batch_size, pad=True)
    samples = batches[batches != NO_SAMPLE]
    assert sorted(samples) == list(range(count))
    assert batches.size - len(samples) < world_size * batch_size


@given(
    count=st.integers(0, 100),
    world_size=st.integers(1, 4),
    batch_size=st.integers(1, 5),
    accumulation=st.integers(1, 3),
    pad=st.booleans(),
    data=st.data(),
)
def test_a_resumed_epoch_is_the_rest_of_it(count, world_size, batch_size, accumulation, pad, data):
    options = {"world_size": world_size, "batch_size": batch_size, "pad": pad}
    options["accumulation"] = accumulation
    length = num_rank_batches(count, **options)
    start = data.draw(st.integers(0, length))
    rank = data.draw(st.integers(0, world_size - 1))
    order = epoch_order([count], seed=5, epoch=1, window=0)
    whole = [tuple(batch) for batch in rank_batches(order, rank=rank, **options)]
    rest = [tuple(batch) for batch in rank_batches(order, rank=rank, start=start, **options)]
    assert len(whole) == length
    assert whole[start:] == rest


@pytest.mark.parametrize(
    ("rank", "start", "name"), [(2, 0, "rank"), (-1, 0, "rank"), (0, 9, "start")]
)
def test_positions_outside_the_epoch_are_refused(rank, start, name):
    with pytest.raises(ValueError, match=f"^{name} must be in"):
        rank_batches(np.arange(32), rank=rank, start=start, world_size=2, batch_size=2)


@given(
    count=st.integers(1, 300),
    repeats=st.integers(1, 5),
    global_size=st.integers(1, 64),
    seed=SEEDS,
)
def test_a_repeated_epoch_has_as_many_draws_as_samples_and_none_twice(
    count, repeats, global_size, seed
):
    order = epoch_order([count], seed=seed, epoch=0, window=0)
    draws = repeated(order, repeats=repeats, global_size=global_size)
    assert len(set(draws.tolist())) == len(draws) == count
    assert set(sample_of(draws).tolist()) == set(order[: -(-count // repeats)].tolist())
    assert np.bincount(sample_of(draws)).max() <= repeats
    firsts = draws[draws == sample_of(draws)]
    assert set(firsts.tolist()) == set(sample_of(draws).tolist())


@pytest.mark.parametrize(
    ("repeats", "world_size", "batch_size"), [(3, 4, 16), (2, 2, 128), (3, 1, 64)]
)
def test_steps_hold_the_images_that_deits_sampler_gives(repeats, world_size, batch_size):
    size, global_size = 1024, world_size * batch_size
    samplers = [
        RepeatAugSampler(range(size), world_size, rank, shuffle=False, num_repeats=repeats)
        for rank in range(world_size)
    ]
    theirs = np.array([list(sampler) for sampler in samplers])  # (ranks, draws of a rank)
    ours = sample_of(repeated(np.arange(size), repeats=repeats, global_size=global_size))
    assert theirs.size == len(ours) == size
    for step in range(size // global_size):
        expected = theirs[:, step * batch_size : (step + 1) * batch_size]
        got = ours[step * global_size : (step + 1) * global_size]
        assert sorted(got.tolist()) == sorted(expected.ravel().tolist())


def test_without_repeats_the_order_is_left_alone():
    order = epoch_order([50], seed=0, epoch=0, window=0)
    assert repeated(order, repeats=1, global_size=8) is order
    assert sample_of(np.array([NO_SAMPLE, 0, 7])).tolist() == [NO_SAMPLE, 0, 7]


def test_neighbours_are_different_images_where_a_step_has_several():
    for repeats, global_size in itertools.product((2, 3, 4), (24, 32, 50)):
        draws = repeated(np.arange(300), repeats=repeats, global_size=global_size)
        whole = draws[: 300 // global_size * global_size].reshape(-1, global_size)
        pairs = sample_of(whole[:, : global_size // 2 * 2]).reshape(-1, 2)
        assert (pairs[:, 0] != pairs[:, 1]).all()
