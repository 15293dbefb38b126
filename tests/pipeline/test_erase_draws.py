"""The draws of random erasing against timm fed with the same numbers, and their law."""

import math
import random

import numpy as np
import pytest
import scipy.stats
import timm.data.random_erasing
import torch

from pipeline.augment.config import AugmentConfig
from pipeline.augment.erase_draws import erase_boxes, erase_colors, noise_offsets
from pipeline.counter import Stream, uniforms
from tests.support.replay import Replay, digest

SAMPLES = np.arange(300)
KEY = {"seed": 4, "epoch": 9, "samples": SAMPLES}
COUNTS = [(1, 1), (3, 3), (1, 4)]


def config(counts=(1, 1), erase=0.5, **more):
    return AugmentConfig(erase=erase, erase_min_count=counts[0], erase_max_count=counts[1], **more)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("size", [32, 224])
def test_erase_boxes_are_timms(monkeypatch, size, counts):
    boxes = erase_boxes(config(counts), **KEY, size=size)
    low, high = counts
    numbers = uniforms(Stream.ERASE, **KEY, count=41)
    more = uniforms(Stream.ERASE_MORE, **KEY, count=40 * 3)
    counting = uniforms(Stream.ERASE_COUNT, **KEY, count=1)
    erase = timm.data.random_erasing.RandomErasing(
        probability=0.5, device="cpu", min_count=low, max_count=high
    )
    assert boxes.shape == (len(SAMPLES), high, 4)
    for drawn, first, others, u_count in zip(boxes, numbers, more, counting, strict=True):
        tries = np.concatenate([first[1:], others]).reshape(-1, 10, 4)
        count = low + math.floor((high - low + 1) * u_count[0])
        consumed = [first[0], *([u_count[0]] if high > low else [])]
        consumed += [u for box in tries[:count] for u in _consumed_by_erase(box, size, count)]
        monkeypatch.setattr(timm.data.random_erasing, "random", Replay(consumed))
        expected = torch.ones(1, size, size)
        for top, left, height, width in drawn:
            expected[:, top : top + height, left : left + width] = 0
        assert torch.equal(erase(torch.ones(1, size, size)), expected)


def _consumed_by_erase(tries, size, count):
    """The uniforms in the order of timm's calls, up to the first box that fits."""
    for u_area, u_ratio, u_top, u_left in tries:
        yield u_area
        yield u_ratio
        area = (0.02 + (1 / 3 - 0.02) * u_area) * size**2 / count
        aspect = math.exp(math.log(0.3) + (math.log(1 / 0.3) - math.log(0.3)) * u_ratio)
        if round(math.sqrt(area * aspect)) < size and round(math.sqrt(area / aspect)) < size:
            yield u_top
            yield u_left
            return


@pytest.mark.parametrize("counts", COUNTS)
def test_erased_areas_follow_timms_law(monkeypatch, counts):
    count, size = 20_000, 96
    key = {"seed": 1, "epoch": 0, "samples": np.arange(count)}
    boxes = erase_boxes(config(counts, erase=0.6), **key, size=size)
    sides = []

    def note(_per_pixel, _rand_color, patch, **_):
        sides.append(patch[1:])
        return torch.zeros(1)

    monkeypatch.setattr(timm.data.random_erasing, "_get_pixels", note)
    random.seed(7)
    low, high = counts
    erase = timm.data.random_erasing.RandomErasing(
        probability=0.6, device="cpu", min_count=low, max_count=high
    )
    numbers, image = [], torch.zeros(1, size, size)
    for _ in range(count):
        before = len(sides)
        erase(image)
        numbers.append(len(sides) - before)
    ours = (boxes[..., 2] > 0).sum(axis=1)
    table = [np.bincount(part, minlength=high + 1) for part in (ours, numbers)]
    table = np.array(table)[:, np.sum(table, axis=0) > 0]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-4
    drawn, sides = boxes[boxes[..., 2] > 0][:, 2:], np.array(sides)
    for value in (np.prod, lambda side, axis: side[:, 0] / side[:, 1]):
        same = scipy.stats.ks_2samp(value(drawn, axis=1), value(sides, axis=1))
        assert same.pvalue > 1e-4


def test_draws_are_those_of_the_first_release():
    """A changed draw would silently change every run that is resumed."""
    key = {"seed": 9, "epoch": 4, "samples": np.arange(500)}
    boxes, starts = erase_boxes(config(erase=0.4), **key, size=96), noise_offsets(2**20, **key)
    assert (digest(boxes), digest(starts)) == ("31749d5ad8d05e64", "5c7292f42800784f")


def test_more_boxes_leave_the_first_ones_noise_where_it_was():
    one, three = noise_offsets(2**20, **KEY), noise_offsets(2**20, **KEY, boxes=3)
    np.testing.assert_array_equal(three[:, :1], one)
    assert len(set(three.ravel().tolist())) > 0.99 * three.size


def test_colours_are_normal_and_independent():
    colors = erase_colors(**KEY, boxes=4)
    assert colors.shape == (len(SAMPLES), 4, 3)
    assert scipy.stats.kstest(colors.ravel(), "norm").pvalue > 1e-4
    correlation = np.corrcoef(colors.reshape(len(SAMPLES), -1).T) - np.eye(12)
    assert np.abs(correlation).max() < 5 / math.sqrt(len(SAMPLES))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"erase": 0.5, "erase_min_count": 3}, "1 <= min <= max, got 3 and 1"),
        ({"erase": 0.5, "erase_min_count": 0}, "1 <= min <= max, got 0 and 1"),
        ({"erase_mode": "rand"}, "erase_mode 'rand' has no effect without erase"),
        ({"erase_max_count": 2}, "erase_max_count 2 has no effect without erase"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**options)
