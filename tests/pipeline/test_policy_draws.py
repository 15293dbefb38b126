"""20,000 draws of each policy against as many of timm's and torchvision's own code.

timm runs without images: its operations are replaced by notes of how they are called. All seeds are
fixed, so that a test either passes always or never; each comparison would fail by chance once in
10,000 seeds.
"""

import random
from collections import Counter, defaultdict
from itertools import chain

import numpy as np
import pytest
import scipy.stats
import timm.data.auto_augment as timm_augment
import torch
import torchvision.transforms as tv
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.augment.image_draws import ImageAugmentation, image_draws
from pipeline.augment.policies.operations import RESAMPLING, Operation
from pipeline.augment.policies.policy import parse_policy

SIZE = 224
COUNT = 20_000
SIGNIFICANCE = 1e-4
KEY = {"seed": 11, "epoch": 2, "samples": np.arange(COUNT)}
RESAMPLING_NAMES = {operation.name for operation in RESAMPLING}
FILTER_NAMES = {1: "BILINEAR", 2: "BICUBIC"}


class Note:
    """Stands for an image, and keeps what was done to it: (name, argument, filter)."""

    def __init__(self):
        self.calls = []


def noted(op):
    """Let one of timm's AugmentOps note its call, with the radius and the filter that it draws."""

    def function(note, *args, **kwargs):
        name, arg = op.name, args[0] if args else None
        if name == "GaussianBlurRand":
            name, arg = "GaussianBlur", random.uniform(0.1, 2.0 * arg)
        resample = timm_augment._interpolation(kwargs).name if name in RESAMPLING_NAMES else None
        note.calls.append((name, arg, resample))
        return note

    op.aug_fn = function


def timms_calls(text):
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 # timm draws from the global state
    params = {"translate_const": int(SIZE * 0.45), "img_mean": (0, 0, 0)}
    if text.startswith("rand"):
        transform = timm_augment.rand_augment_transform(text, params)
    else:
        transform = timm_augment.auto_augment_transform(text, params)
    ops = transform.ops if text.startswith("rand") else chain.from_iterable(transform.policy)
    for op in ops:
        noted(op)
    return [transform(Note()).calls for _ in range(COUNT)]


def our_calls(operations, args, filters):
    """The same notes of (B, K) draws."""
    rows = zip(operations.tolist(), args.tolist(), filters.tolist(), strict=True)
    return [
        [
            (
                Operation(code).name,
                None if np.isnan(arg) else arg,
                FILTER_NAMES.get(resample),
            )
            for code, arg, resample in zip(*row, strict=True)
            if code
        ]
        for row in rows
    ]


def draws_of(text, **options):
    augmentation = ImageAugmentation(policy=parse_policy(text), **options)
    return image_draws(augmentation, **KEY, size=SIZE)


def assert_same_counts(ours, theirs, what):
    """Chi-square test that two lists of categories come from one law."""
    ours, theirs = Counter(ours), Counter(theirs)
    both = ours + theirs
    rare = [key for key, count in both.items() if count < 20]
    table = [[counts[key] for key in both if key not in rare] for counts in (ours, theirs)]
    rest = [sum(counts[key] for key in rare) for counts in (ours, theirs)]
    if sum(rest) >= 20:
        table = [[*row, count] for row, count in zip(table, rest, strict=True)]
    if len(table[0]) < 2:
        assert rare or ours.keys() == theirs.keys(), what
        return
    assert scipy.stats.chi2_contingency(table).pvalue > SIGNIFICANCE, (what, ours, theirs)


def assert_same_numbers(ours, theirs, what):
    """Kolmogorov-Smirnov test, and a chi-square one of the values that come more than once."""
    assert scipy.stats.ks_2samp(ours, theirs).pvalue > SIGNIFICANCE, what
    common = {value for value, count in Counter([*ours, *theirs]).items() if count > 20}
    kinds = [[value if value in common else "other" for value in part] for part in (ours, theirs)]
    assert_same_counts(*kinds, what)


def by_name(calls):
    args, filters = defaultdict(list), defaultdict(list)
    for name, arg, resample in (call for calls_of_image in calls for call in calls_of_image):
        args[name].append(arg)
        filters[name].append(resample)
    return args, filters


POLICIES = [
    "rand-m9-mstd0.5-inc1",
    "rand-m7-n3-mstd101-p0.7",
    "rand-m9-n2-mstd2-mmax12-inc1-p1",
    "rand-m8-n3-mstd1-tweights",
    "rand-m5-n2-p0.8-t3aw",
    "rand-m6-mstd3-t3a",
    "original-mstd0.5",
    "originalr",
    "v0-mstd1",
    "v0r",
    "3a",
    "3a-mstd4",
]


@pytest.mark.parametrize("text", POLICIES)
def test_policies_draw_as_timm(text):
    ours, theirs = our_calls(*draws_of(text).chain), timms_calls(text)
    assert_same_counts(map(len, ours), map(len, theirs), "operations applied to an image")
    sequences = [[tuple(name for name, *_ in calls) for calls in part] for part in (ours, theirs)]
    assert_same_counts(*sequences, "operations in order")
    assert_same_counts(*(chain.from_iterable(part) for part in sequences), "operations")
    (our_args, our_filters), (their_args, their_filters) = by_name(ours), by_name(theirs)
    for name in their_args:
        assert_same_counts(our_filters[name], their_filters[name], f"filters of {name}")
        if their_args[name][0] is None:
            assert set(our_args[name]) == {None}
            continue
        assert_same_numbers(our_args[name], their_args[name], f"arguments of {name}")
        signs = [np.sign(args).tolist() for args in (our_args[name], their_args[name])]
        assert_same_counts(*signs, f"signs of {name}")


def test_torchvisions_policy_draws_as_torchvision(monkeypatch):
    notes = []

    def note(image, name, magnitude, **_):
        notes.append((name, magnitude))
        return image

    monkeypatch.setattr(tv.autoaugment, "_apply_op", note)
    torch.manual_seed(3)
    augment, image = tv.RandAugment(2, 12), torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    for _ in range(COUNT // 4):  # each takes as long as a whole batch of ours
        augment(image)
    names = [name.replace("Identity", "NONE") for name, _ in notes]
    drawn = draws_of("tv-n2-m12").chain
    codes, args = drawn.operations.ravel(), drawn.args.ravel()
    assert_same_counts([Operation(code).name for code in codes.tolist()], names, "operations")
    for name in set(names) - {"NONE"}:
        theirs = [magnitude for other, magnitude in notes if other == name]
        ours = args[codes == Operation[name]]
        if len(set(theirs)) == 1:  # without direction
            assert len(set(ours.tolist())) == 1 or np.isnan(ours).all()
        else:
            middle = 1.0 if Operation[name] not in RESAMPLING else 0.0
            flip = -1 if name.startswith("Translate") else 1
            signs = np.sign(flip * (ours - middle)).tolist(), np.sign(theirs).tolist()
            assert_same_counts(*signs, f"signs of {name}")


@pytest.mark.parametrize("text", ["augmix-m5-w4-d2-a0.5", "augmix-mstd1"])
def test_augmix_draws_as_timm(text):
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 # timm draws from the global state
    params = {"translate_const": 100, "img_mean": (0, 0, 0), "translate_pct": 0.3}
    transform = timm_augment.augment_and_mix_transform(text, params)
    for op in transform.ops:
        noted(op)
    chains, weights, shares = [], [], []

    def note_mix(image, mixing_weights, m):
        weights.append(mixing_weights)
        shares.append(m)
        for _ in mixing_weights:  # the loop of timm's `_apply_basic`, without the pixels
            depth = transform.depth if transform.depth > 0 else np.random.randint(1, 4)  # noqa: NPY002
            note = Note()
            for op in np.random.choice(transform.ops, depth, replace=True):  # noqa: NPY002
                op(note)
            chains.append(note.calls)

    transform._apply_basic = note_mix
    for _ in range(COUNT // 4):
        transform(None)

    mixed = draws_of(text).mixed
    width, depth = mixed.chains.operations.shape[1:]
    ours = our_calls(*(part.reshape(-1, depth) for part in mixed.chains))
    assert_same_counts(map(len, ours), map(len, chains), "depth of chains")
    (our_args, our_filters), (their_args, their_filters) = by_name(ours), by_name(chains)
    names = [[name for name in args for _ in args[name]] for args in (our_args, their_args)]
    assert_same_counts(*names, "operations")
    for name in their_args:
        assert_same_counts(our_filters[name], their_filters[name], f"filters of {name}")
        if their_args[name][0] is not None:
            assert_same_numbers(our_args[name], their_args[name], f"arguments of {name}")
    weights = np.array(weights)
    for index in range(width):
        assert (
            scipy.stats.ks_2samp(mixed.weights[:, index], weights[:, index]).pvalue > SIGNIFICANCE
        )
    largest = mixed.weights.max(axis=1), weights.max(axis=1)
    assert scipy.stats.ks_2samp(*largest).pvalue > SIGNIFICANCE
    assert scipy.stats.ks_2samp(mixed.shares, shares).pvalue > SIGNIFICANCE
    np.testing.assert_allclose(mixed.weights.sum(axis=1), 1, rtol=1e-6)
    assert abs(np.corrcoef(mixed.shares, mixed.weights[:, 0])[0, 1]) < 4 / np.sqrt(COUNT)


def test_colour_jitter_draws_as_torchvision():
    strengths = (0.4, 1.3, 0.2, 0.1)
    augmentation = ImageAugmentation(color_jitter=strengths, color_jitter_prob=0.7)
    drawn = image_draws(augmentation, **KEY, size=SIZE).chain
    torch.manual_seed(3)
    jitter = tv.ColorJitter(*strengths)
    theirs = [
        jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        for _ in range(COUNT)
    ]
    names = ("Brightness", "Contrast", "Color", "Hue")
    applied = drawn.operations[:, 0] > 0
    assert scipy.stats.binomtest(int(applied.sum()), COUNT, 0.7).pvalue > SIGNIFICANCE
    assert np.array_equal(applied, (drawn.operations > 0).all(axis=1))
    orders = [tuple(Operation(code).name for code in row) for row in drawn.operations[applied]]
    expected = [tuple(names[i] for i in order.tolist()) for order, *_ in theirs]
    assert_same_counts(orders, expected, "orders")
    for index, name in enumerate(names):
        ours = drawn.args[drawn.operations == Operation[name]]
        factors = [params[1 + index] for params in theirs]
        assert scipy.stats.ks_2samp(ours, factors).pvalue > SIGNIFICANCE, name


def test_grayscale_and_blur_come_as_often_as_configured():
    drawn = image_draws(ImageAugmentation(grayscale=0.2, gaussian_blur=0.6), **KEY, size=SIZE).chain
    gray, blurred = (drawn.operations > 0).T
    assert scipy.stats.binomtest(int(gray.sum()), COUNT, 0.2).pvalue > SIGNIFICANCE
    assert scipy.stats.binomtest(int(blurred.sum()), COUNT, 0.6).pvalue > SIGNIFICANCE
    assert abs(np.corrcoef(gray, blurred)[0, 1]) < 4 / np.sqrt(COUNT)
    sigma = drawn.args[blurred, 1]
    assert scipy.stats.kstest(sigma, scipy.stats.uniform(0.1, 1.9).cdf).pvalue > SIGNIFICANCE


def test_weighted_operations_come_once_for_each_image():
    operations = np.sort(draws_of("rand-n4-p1-tweights").chain.operations, axis=1)
    assert (np.diff(operations, axis=1) > 0).all()


AUGMENTATIONS = [
    ImageAugmentation(
        policy=parse_policy(text),
        color_jitter=(0.4, 0.4, 0.4, 0.1),
        grayscale=0.3,
        gaussian_blur=0.3,
    )
    for text in ("rand-m9-mstd0.5-inc1", "rand-n3-tweights", "v0-mstd1", "3a", "augmix", "tv")
]


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 400), split=st.integers(1, 29))
@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=range(len(AUGMENTATIONS)))
def test_a_draw_does_not_depend_on_the_batch(augmentation, seed, epoch, split):
    def arrays(samples):
        drawn = image_draws(augmentation, seed=seed, epoch=epoch, samples=samples, size=SIZE)
        mixed = drawn.mixed
        return [*drawn.chain, *((*mixed.chains, mixed.weights, mixed.shares) if mixed else ())]

    samples = np.random.default_rng(seed).permutation(30)
    whole, parts = arrays(samples), (arrays(samples[:split]), arrays(samples[split:]))
    for array, first, second in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(array, np.concatenate([first, second]))
