"""The draws against timm and torchvision fed with the same numbers, and their distributions."""

import math

import numpy as np
import pytest
import scipy.stats
import timm.data.mixup
import timm.data.random_erasing
import timm.data.transforms
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.augment import draws
from pipeline.config import AugmentConfig, CropConfig
from pipeline.counter import Stream, random_bits, uniforms

SAMPLES = np.arange(300)


class Replay:
    """Stands for the module `random`, or `numpy.random`, and deals out given uniforms."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def random(self):
        return next(self.numbers)

    def uniform(self, low, high):
        return low + (high - low) * next(self.numbers)

    def randint(self, low, high):
        return low + math.floor((high - low + 1) * next(self.numbers))


@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 1000), split=st.integers(1, 29))
def test_a_draw_does_not_depend_on_the_batch(seed, epoch, split):
    def crops(samples):
        sizes = {"widths": 100 + samples, "heights": 180 - samples}
        return draws.crop_boxes(CropConfig(), seed=seed, epoch=epoch, samples=samples, **sizes)

    samples = np.random.default_rng(seed).permutation(30)
    parts = np.concatenate([crops(samples[:split]), crops(samples[split:])])
    np.testing.assert_array_equal(crops(samples), parts)


def test_numbers_of_different_keys_are_unrelated():
    variants = [(seed, epoch, stream) for seed in (0, 1) for epoch in (0, 1) for stream in Stream]
    columns = [
        uniforms(stream, seed=seed, epoch=epoch, samples=np.arange(4000), count=2).T
        for seed, epoch, stream in variants
    ]
    correlation = np.corrcoef(np.concatenate(columns)) - np.eye(2 * len(variants))
    assert np.abs(correlation).max() < 6 / math.sqrt(4000)  # 2,016 pairs, six deviations


def test_numbers_are_uniform():
    u = uniforms(Stream.CROP, seed=3, epoch=7, samples=np.arange(5000), count=8)
    assert u.min() >= 0
    assert u.max() < 1
    assert scipy.stats.kstest(u.ravel(), "uniform").pvalue > 1e-3


def test_bits_are_those_of_the_first_release():
    """A changed hash would silently change every run that is resumed."""
    bits = random_bits(Stream.FLIP, seed=1, epoch=2, samples=np.array([0, 5]), count=2)
    assert bits.tolist() == [
        [17526953937045449313, 16383181009133024960],
        [7660607925295205326, 13441989712254277862],
    ]


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (2.0, 4.0), (0.1, 0.2)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_crop_boxes_are_timms(monkeypatch, scale, ratio):
    rng = np.random.default_rng(0)
    widths, heights = rng.integers(10, 600, (2, len(SAMPLES)))
    config = CropConfig(scale=scale, ratio=ratio)
    key = {"seed": 4, "epoch": 9, "samples": SAMPLES}
    boxes = draws.crop_boxes(config, **key, widths=widths, heights=heights)
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
    boxes = draws.crop_boxes(config, seed=0, epoch=0, samples=np.arange(20), **sizes)
    top, left, box_height, box_width = boxes.T
    assert np.all(boxes >= 0)
    assert np.all(box_height > 0)
    assert np.all(box_width > 0)
    assert np.all(top + box_height <= height)
    assert np.all(left + box_width <= width)


@pytest.mark.parametrize("size", [32, 224])
def test_erase_boxes_are_timms(monkeypatch, size):
    key = {"seed": 4, "epoch": 9, "samples": SAMPLES}
    boxes = draws.erase_boxes(0.5, **key, size=size)
    numbers = uniforms(Stream.ERASE, **key, count=41)
    erase = timm.data.random_erasing.RandomErasing(probability=0.5, device="cpu")
    for box, u in zip(boxes, numbers, strict=True):
        monkeypatch.setattr(timm.data.random_erasing, "random", Replay(_consumed_by_erase(u, size)))
        top, left, height, width = box
        expected = torch.ones(1, size, size)
        expected[:, top : top + height, left : left + width] = 0
        assert torch.equal(erase(torch.ones(1, size, size)), expected)


def _consumed_by_erase(u, size):
    yield u[0]
    for u_area, u_ratio, u_top, u_left in u[1:].reshape(10, 4):
        yield u_area
        yield u_ratio
        area = (0.02 + (1 / 3 - 0.02) * u_area) * size**2
        aspect = math.exp(math.log(0.3) + (math.log(1 / 0.3) - math.log(0.3)) * u_ratio)
        if round(math.sqrt(area * aspect)) < size and round(math.sqrt(area / aspect)) < size:
            yield u_top
            yield u_left


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.8, 1.0, 3.0])
def test_mixing_weights_follow_the_beta_distribution(alpha):
    config = AugmentConfig(mixup=alpha)
    mixed = draws.mixes(config, seed=0, epoch=0, samples=np.arange(20_000), size=224)
    assert not mixed.is_cutmix.any()
    assert not mixed.boxes.any()
    # A small alpha rounds to 0 and 1 in float32: compare inside, where the law is continuous.
    reference = scipy.stats.beta(alpha, alpha)
    edges = np.linspace(0, 1, 21)[1:-1]
    share = np.searchsorted(np.sort(mixed.weights), edges) / 20_000
    np.testing.assert_allclose(share, reference.cdf(edges), atol=4 * 0.5 / math.sqrt(20_000))


def test_extreme_alphas_stay_finite():
    for alpha in (1e-6, 1e6):
        config = AugmentConfig(mixup=alpha)
        weights = draws.mixes(config, seed=0, epoch=0, samples=SAMPLES, size=8).weights
        assert np.all((weights >= 0) & (weights <= 1))


def test_cutmix_boxes_are_timms(monkeypatch):
    config = AugmentConfig(cutmix=1.0)
    key = {"seed": 4, "epoch": 9, "samples": SAMPLES}
    mixed = draws.mixes(config, **key, size=224)
    blended = draws.mixes(AugmentConfig(mixup=1.0), **key, size=224)  # the same weights, uncut
    centres = (uniforms(Stream.MIX, **key, count=3)[:, 1:] * 224).astype(int)
    assert mixed.is_cutmix.all()
    for i in range(len(SAMPLES)):
        draw = iter(centres[i])
        monkeypatch.setattr(np.random, "randint", lambda *_, size, d=draw: next(d))
        cut = timm.data.mixup.cutmix_bbox_and_lam((3, 224, 224), blended.weights[i])
        (top, bottom, left, right), weight = cut
        assert tuple(mixed.boxes[i]) == (top, left, bottom - top, right - left)
        assert mixed.weights[i] == pytest.approx(weight, abs=1e-6)


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_switch_is_the_share_of_cutmix(switch):
    config = AugmentConfig(mixup=0.8, cutmix=1.0, switch=switch)
    mixed = draws.mixes(config, seed=0, epoch=0, samples=np.arange(10_000), size=32)
    assert mixed.is_cutmix.mean() == pytest.approx(switch, abs=0.02)


def test_flips_and_interpolations_come_as_often_as_configured():
    config = CropConfig(hflip=0.3, interpolation="random")
    key = {"seed": 0, "epoch": 0, "samples": np.arange(10_000)}
    flips, bicubic = draws.flips(config, **key), draws.bicubic(config, **key)
    assert flips.mean() == pytest.approx(0.3, abs=0.02)
    assert bicubic.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(flips, bicubic)[0, 1]) < 0.05
    assert not draws.bicubic(CropConfig(interpolation="bilinear"), **key).any()
    assert draws.bicubic(CropConfig(interpolation="bicubic"), **key).all()
