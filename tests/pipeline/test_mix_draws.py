"""The draws of mixup and cutmix against timm fed with the same numbers, and their law."""

import math

import numpy as np
import pytest
import scipy.stats
import timm.data.mixup

from pipeline.augment.config import AugmentConfig
from pipeline.augment.mix_draws import mixes
from pipeline.counter import Stream, uniforms
from tests.support.replay import digest

SAMPLES = np.arange(300)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.8, 1.0, 3.0])
def test_mixing_weights_follow_the_beta_distribution(alpha):
    config = AugmentConfig(mixup=alpha)
    mixed = mixes(config, seed=0, epoch=0, samples=np.arange(20_000), size=224)
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
        weights = mixes(config, seed=0, epoch=0, samples=SAMPLES, size=8).weights
        assert np.all((weights >= 0) & (weights <= 1))


def test_cutmix_boxes_are_timms(monkeypatch):
    config = AugmentConfig(cutmix=1.0)
    key = {"seed": 4, "epoch": 9, "samples": SAMPLES}
    mixed = mixes(config, **key, size=224)
    blended = mixes(AugmentConfig(mixup=1.0), **key, size=224)  # the same weights, uncut
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
    mixed = mixes(config, seed=0, epoch=0, samples=np.arange(10_000), size=32)
    assert mixed.is_cutmix.mean() == pytest.approx(switch, abs=0.02)


def test_draws_are_those_of_the_first_release():
    """A changed draw would silently change every run that is resumed."""
    config = AugmentConfig(mixup=0.8, cutmix=1.0, switch=0.4)
    mixed = mixes(config, seed=9, epoch=4, samples=np.arange(500), size=96)
    assert digest(mixed.boxes) == "ba53bfc379092647"
    assert digest(mixed.is_cutmix) == "83a492202208ea7a"
    assert mixed.weights[:4] == pytest.approx([0.590326, 0.533470, 0.333222, 0.873718], abs=1e-6)


@pytest.mark.parametrize("correct_lam", [True, False])
def test_weights_and_boxes_follow_timms_law(correct_lam):
    count, size = 20_000, 224
    options = {"mixup": 0.8, "cutmix": 0.6, "switch": 0.3, "mix_prob": 0.7}
    config = AugmentConfig(**options, correct_lam=correct_lam)
    ours = mixes(config, seed=1, epoch=0, samples=np.arange(count), size=size)
    np.random.seed(5)  # noqa: NPY002 # timm draws from the global state
    timms = timm.data.mixup.Mixup(
        0.8, 0.6, prob=0.7, switch_prob=0.3, mode="elem", correct_lam=correct_lam
    )
    weights, is_cutmix = timms._params_per_elem(count)
    is_cutmix &= weights != 1
    areas = []
    for i in np.flatnonzero(is_cutmix):
        cut = timm.data.mixup.cutmix_bbox_and_lam((3, size, size), weights[i], None, correct_lam)
        (top, bottom, left, right), weights[i] = cut
        areas.append((bottom - top) * (right - left))
    table = [
        [np.sum((w == 1) & ~cut), np.sum((w != 1) & ~cut), np.sum(cut)]
        for w, cut in ((ours.weights, ours.is_cutmix), (weights, is_cutmix))
    ]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-4
    for cut in (True, False):
        drawn, expected = ours.weights[ours.is_cutmix == cut], weights[is_cutmix == cut]
        assert scipy.stats.ks_2samp(drawn, expected).pvalue > 1e-4
    drawn = np.prod(ours.boxes[ours.is_cutmix, 2:], axis=1)
    assert scipy.stats.ks_2samp(drawn, areas).pvalue > 1e-4


def test_what_is_not_mixed_keeps_its_own_target():
    config = AugmentConfig(mixup=0.8, cutmix=1.0, mix_prob=0.3)
    mixed = mixes(config, seed=0, epoch=0, samples=np.arange(2000), size=32)
    unmixed = (mixed.weights == 1) & ~mixed.is_cutmix & ~mixed.boxes.any(axis=1)
    assert 0.6 < unmixed.mean() < 0.8
    always = mixes(AugmentConfig(mixup=0.8, cutmix=1.0), seed=0, epoch=0, samples=SAMPLES, size=32)
    mixed_ones = ~unmixed[: len(SAMPLES)]
    np.testing.assert_array_equal(
        mixed.weights[: len(SAMPLES)][mixed_ones], always.weights[mixed_ones]
    )


def test_an_uncorrected_weight_is_the_one_that_was_drawn():
    options = {"seed": 0, "epoch": 0, "samples": SAMPLES, "size": 32}
    uncorrected = mixes(AugmentConfig(cutmix=0.7, correct_lam=False), **options)
    drawn = mixes(AugmentConfig(mixup=0.7), **options).weights
    np.testing.assert_array_equal(uncorrected.weights, drawn)
    corrected = mixes(AugmentConfig(cutmix=0.7), **options)
    np.testing.assert_array_equal(uncorrected.boxes, corrected.boxes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix_prob": 0.5}, "mix_prob 0.5 has no effect without mixup or cutmix"),
        ({"mix_off_epoch": 5}, "mix_off_epoch 5 has no effect without mixup or cutmix"),
        ({"mixup": 1.0, "correct_lam": False}, "correct_lam False has no effect without cutmix"),
        ({"mixup": 1.0, "mix_off_epoch": -1}, r"mix_off_epoch must be >= 0 \(0: never\)"),
        ({"mixup": 1.0, "mix_prob": 1.5}, "mix_prob must be a probability, got 1.5"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**options)
