"""The draws of crops against timm and torchvision fed with the same numbers, and their laws."""

import math
import random

import numpy as np
import pytest
import scipy.stats
import timm.data.transforms
import torch
import torchvision.transforms
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.augment import crop_draws
from pipeline.config import CropConfig
from pipeline.counter import Stream, uniforms
from tests.support.replay import Replay, digest

SAMPLES = np.arange(300)


@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 1000), split=st.integers(1, 29))
def test_a_draw_does_not_depend_on_the_batch(seed, epoch, split):
    def crops(samples):
        sizes = {"widths": 100 + samples, "heights": 180 - samples}
        return crop_draws.crop_boxes(CropConfig(), seed=seed, epoch=epoch, samples=samples, **sizes)

    samples = np.random.default_rng(seed).permutation(30)
    parts = np.concatenate([crops(samples[:split]), crops(samples[split:])])
    np.testing.assert_array_equal(crops(samples), parts)


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (2.0, 4.0), (0.1, 0.2)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_crop_boxes_are_timms(monkeypatch, scale, ratio):
    rng = np.random.default_rng(0)
    widths, heights = rng.integers(10, 600, (2, len(SAMPLES)))
    config = CropConfig(scale=scale, ratio=ratio)
    key = {"seed": 4, "epoch": 9, "samples": SAMPLES}
    boxes = crop_draws.crop_boxes(config, **key, widths=widths, heights=heights)
    numbers = uniforms(Stream.CROP, **key, count=40)
    for box, width, height, u in zip(boxes, widths, heights, numbers, strict=True):
        fits = [list(u.reshape(10, 4)[i]) for i in range(10)]
        replay = Replay(_consumed_by_crop(fits, width, height, scale, ratio))
        monkeypatch.setattr(timm.data.transforms, "random", replay)
        image = Image.new("L", (int(width), int(height)))
        transform = timm.data.transforms.RandomResizedCropAndInterpolation
        assert transform.get_params(image, scale, ratio) == tuple(box)


def _consumed_by_crop(tries, width, height, scale, ratio):
    """The uniforms in the order of timm's calls: it draws a place only for a box that fits."""
    for u_area, u_ratio, u_top, u_left in tries:
        yield u_area
        yield u_ratio
        area = (scale[0] + (scale[1] - scale[0]) * u_area) * (width * height)
        log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(log_low + (log_high - log_low) * u_ratio)
        if round(math.sqrt(area * aspect)) <= width and round(math.sqrt(area / aspect)) <= height:
            yield u_top
            yield u_left


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted).map(tuple),
    ratio=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)).map(sorted).map(tuple),
)
def test_crop_boxes_lie_within_the_image(width, height, scale, ratio):
    sizes = {"widths": np.full(20, width), "heights": np.full(20, height)}
    config = CropConfig(scale=scale, ratio=ratio)
    boxes = crop_draws.crop_boxes(config, seed=0, epoch=0, samples=np.arange(20), **sizes)
    top, left, box_height, box_width = boxes.T
    assert np.all(boxes >= 0)
    assert np.all(box_height > 0)
    assert np.all(box_width > 0)
    assert np.all(top + box_height <= height)
    assert np.all(left + box_width <= width)


def test_flips_and_interpolations_come_as_often_as_configured():
    config = CropConfig(hflip=0.3, interpolation="random")
    key = {"seed": 0, "epoch": 0, "samples": np.arange(10_000)}
    flips, bicubic = crop_draws.flips(config, **key), crop_draws.bicubic(config, **key)
    assert flips.mean() == pytest.approx(0.3, abs=0.02)
    assert bicubic.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(flips, bicubic)[0, 1]) < 0.05
    assert not crop_draws.bicubic(CropConfig(interpolation="bilinear"), **key).any()
    assert crop_draws.bicubic(CropConfig(interpolation="bicubic"), **key).all()


def test_draws_are_those_of_the_first_release():
    """A changed draw would silently change every run that is resumed."""
    widths, heights = np.random.default_rng(0).integers(20, 600, (2, 500))
    config = CropConfig(interpolation="random")
    drawn = crop_draws.crops(
        config, seed=9, epoch=4, samples=np.arange(500), widths=widths, heights=heights
    )
    hashes = [digest(drawn.boxes), digest(drawn.flips), digest(drawn.bicubic)]
    assert hashes == ["5f7bf50ed25fb669", "54d28eb9e6b7285a", "bf338ca58c9ca59d"]
    assert not drawn.vertical_flips.any()
    assert not drawn.shifts.any()


def test_areas_and_ratios_of_crops_follow_timms_law():
    count, width, height = 20_000, 500, 375
    sizes = {"widths": np.full(count, width), "heights": np.full(count, height)}
    key = {"seed": 1, "epoch": 0, "samples": np.arange(count)}
    ours = crop_draws.crop_boxes(CropConfig(), **key, **sizes)
    random.seed(5)
    image = Image.new("L", (width, height))
    transform = timm.data.transforms.RandomResizedCropAndInterpolation
    theirs = [transform.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(count)]
    for name, value in {
        "area": lambda box: box[:, 2] * box[:, 3],
        "ratio": lambda box: box[:, 3] / box[:, 2],
        "top": lambda box: box[:, 0] / (height - box[:, 2] + 1),
        "left": lambda box: box[:, 1] / (width - box[:, 3] + 1),
    }.items():
        same = scipy.stats.ks_2samp(value(ours), value(np.array(theirs)))
        assert same.pvalue > 1e-4, name


def test_padded_crops_are_torchvisions():
    """Of images that have the input's size already, as CIFAR's."""
    size, padding, count = 20, 3, 2000
    config = CropConfig(mode="pad", padding=padding, hflip=0.4, vflip=0.3)
    key = {"seed": 1, "epoch": 0, "samples": np.arange(count)}
    sizes = {"widths": np.full(count, size), "heights": np.full(count, size)}
    drawn = crop_draws.crops(config, **key, **sizes)
    assert (drawn.boxes == [0, 0, size, size]).all()
    shifts = crop_draws.padded_shifts(config, **key)
    assert (
        scipy.stats.chisquare(
            np.bincount(shifts.ravel() + padding, minlength=2 * padding + 1)
        ).pvalue
        > 1e-4
    )

    pixels = torch.arange(1, size * size + 1).view(1, size, size)
    for i in range(60):
        place = torchvision.transforms.functional.pad(pixels, padding)
        top, left = (shifts[i] + padding).tolist()
        expected = place[:, top : top + size, left : left + size]
        ours = pixels
        if drawn.flips[i]:
            expected, ours = expected.flip(2), ours.flip(2)
        if drawn.vertical_flips[i]:
            expected, ours = expected.flip(1), ours.flip(1)
        down, right = (drawn.shifts[i] + padding).tolist()
        ours = torchvision.transforms.functional.pad(ours, padding)
        assert torch.equal(ours[:, down : down + size, right : right + size], expected)


def test_whole_images_are_taken_whole():
    config = CropConfig(mode="whole")
    sizes = {"widths": np.array([30, 400]), "heights": np.array([50, 20])}
    drawn = crop_draws.crops(config, seed=0, epoch=0, samples=np.array([1, 2]), **sizes)
    assert drawn.boxes.tolist() == [[0, 0, 50, 30], [0, 0, 20, 400]]
    assert not drawn.shifts.any()


def test_vertical_flips_come_as_often_as_configured():
    key = {"seed": 0, "epoch": 0, "samples": np.arange(20_000)}
    config = CropConfig(hflip=0.5, vflip=0.2)
    upside_down = crop_draws.vertical_flips(config, **key)
    assert scipy.stats.binomtest(int(upside_down.sum()), 20_000, 0.2).pvalue > 1e-4
    mirrored = crop_draws.flips(config, **key)
    assert abs(np.corrcoef(upside_down, mirrored)[0, 1]) < 4 / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "pad", "padding": 0}, "padding must be >= 1 pixel, got 0"),
        ({"padding": 8}, "padding 8 has no effect without mode 'pad'"),
        (
            {"mode": "whole", "scale": (0.5, 1.0)},
            r"scale \(0.5, 1.0\) has no effect without mode 'rrc'",
        ),
        ({"mode": "pad", "ratio": (1.0, 1.0)}, r"ratio .* has no effect without mode 'rrc'"),
        ({"vflip": 1.5}, "vflip must be a probability"),
    ],
)
def test_what_would_be_ignored_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CropConfig(**options)
