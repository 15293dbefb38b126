"""The language of policies: what is accepted means what it means in timm, the rest is refused."""

import math

import numpy as np
import pytest
import timm.data.auto_augment as timm_augment
import torchvision.transforms
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augment.policies.operations import Operation
from pipeline.augment.policies.policy import Policy, parse_policy

_NUMBERS = st.floats(0, 250, allow_nan=False).map(lambda value: f"{value:.3f}")


def options(**numbers):
    """Strategy of `-key number` in any order, each at most once."""
    parts = [
        st.one_of(st.just(""), number.map(f"-{key}{{}}".format)) for key, number in numbers.items()
    ]
    return st.tuples(*parts).flatmap(st.permutations).map("".join)


def integers(low, high):
    return st.integers(low, high).map(str)


RAND = options(
    n=integers(1, 14),
    m=integers(0, 40),
    mstd=_NUMBERS,
    mmax=integers(1, 40),
    p=st.floats(0.001, 1).map("{:.4f}".format),
    inc=integers(0, 1),
    t=st.sampled_from(["weights", "3a", "3aw"]),
).map("rand{}".format)
AUTO = st.builds(
    "{}{}".format,
    st.sampled_from(["original", "originalr", "v0", "v0r", "3a"]),
    options(mstd=_NUMBERS),
)
AUGMIX = options(
    m=integers(0, 12),
    w=integers(1, 6),
    d=integers(1, 6),
    a=st.floats(0.01, 9).map("{:.2f}".format),
    b=integers(0, 1),
    mstd=_NUMBERS,
).map("augmix{}".format)


def timms(text):
    """What timm's factory of transforms makes of the text."""
    hparams = {"translate_const": 100, "img_mean": (0, 0, 0)}
    if text.startswith("rand"):
        return timm_augment.rand_augment_transform(text, hparams)
    if text.startswith("augmix"):
        return timm_augment.augment_and_mix_transform(text, hparams | {"translate_pct": 0.3})
    return timm_augment.auto_augment_transform(text, hparams)


def assert_same(policy: Policy, expected):
    if isinstance(expected, timm_augment.AutoAugment):
        choices, layers, weights = expected.policy, 1, None
    elif isinstance(expected, timm_augment.AugMixAugment):
        choices, weights = [[op] for op in expected.ops], None
        longest = expected.depth if expected.depth > 0 else 3
        layers = expected.width * longest
        mixing = policy.mixing
        assert mixing is not None
        assert (mixing.width, mixing.longest) == (expected.width, longest)
        assert (mixing.alpha, mixing.blended) == (expected.alpha, expected.blended)
        assert (mixing.depth is None) == (expected.depth <= 0)
    else:
        choices = [[op] for op in expected.ops]
        layers, weights = expected.num_layers, expected.choice_weights
    ours = [[(s.operation.name, s.probability, s.magnitude) for s in c] for c in policy.choices]
    assert ours == [[(op.name, op.prob, op.magnitude) for op in choice] for choice in choices]
    assert policy.layers == layers
    assert (policy.weights is None) == (weights is None)
    if weights is not None:
        np.testing.assert_allclose(policy.weights, weights, rtol=1e-15)
    for op in (op for choice in choices for op in choice):
        assert op.magnitude_std == policy.magnitude_std
        assert (op.magnitude_max or 10) == policy.magnitude_max
        assert op.hparams.get("translate_pct", 0.45) == policy.translate_share


@given(text=st.one_of(RAND, AUTO, AUGMIX))
def test_policies_are_timms(text):
    assert_same(parse_policy(text), timms(text))


@given(text=st.text("randmsticxpwbo0123.-", max_size=12).map("rand{}".format))
def test_what_is_accepted_timm_accepts_with_the_same_meaning(text):
    try:
        policy = parse_policy(text)
    except ValueError:
        return
    assert_same(policy, timms(text))


@pytest.mark.parametrize("text", ["tv", "tv-n2-m12", "tv-m30-n1", "tv-n3"])
def test_torchvisions_policies_are_torchvisions(text):
    policy = parse_policy(text)
    values = {section[0]: int(section[1:]) for section in text.split("-")[1:]}
    names = {"n": "num_ops", "m": "magnitude"}
    expected = torchvision.transforms.RandAugment(**{names[key]: v for key, v in values.items()})
    operations = [
        name.replace("Identity", "NONE") for name in expected._augmentation_space(31, (9, 9))
    ]
    assert [choice[0].operation.name for choice in policy.choices] == operations
    assert policy.layers == expected.num_ops
    assert {choice[0].magnitude for choice in policy.choices} == {expected.magnitude}
    assert expected.num_magnitude_bins == 31
    assert policy.is_torchvision


@pytest.mark.parametrize(
    ("text", "keeps"),
    [("rand-m9", False), ("rand-m5-t3aw", True), ("3a", True), ("v0", False), ("augmix", False)],
)
def test_colour_jitter_stays_where_timm_keeps_it(text, keeps):
    assert ("3a" in text) == keeps
    assert parse_policy(text).keeps_color_jitter == keeps


def test_the_operations_are_all_of_timms():
    ours = {operation.name for operation in Operation} - {"NONE", "Hue", "GaussianBlur23"}
    assert ours == set(timm_augment.NAME_TO_OP)


REFUSED = {
    "random-m9": "unknown policy 'random'; known are rand, original, originalr, v0, v0r, 3a",
    "": "unknown policy ''",
    "rand-m9-mstd0.5-inc1-x2": "unknown option 'x2'; known are n .*; m .*; mstd .*; t ",
    "rand-w0": "unknown option 'w0'",
    "rand-m9-5": "unknown option '5'",
    "rand-m": "m needs a value: magnitude, an integer >= 0",
    "rand-m9-inc": "inc needs a value: .* 0 or 1",
    "rand-inc2": "inc takes .* 0 or 1; got '2'",
    "rand-m9.5": r"m takes magnitude, an integer >= 0; got '9\.5'",
    "rand-p1.5": r"p takes .* in \(0, 1\]; got '1\.5'",
    "rand-p0": r"p takes .* in \(0, 1\]; got '0'",
    "rand-n0": "n takes .* an integer >= 1; got '0'",
    "rand-mmax0": "mmax takes .* >= 1; got '0'",
    "rand-m9-m8": "the option m is given twice",
    "rand-tweights-t3a": r"the set of operations \(t\) is given twice",
    "rand-tall": "unknown set of operations 'all'.*; known are weights, 3a, 3aw",
    "rand-n16-tweights": "n16 is more than the 15 operations of the set 'weights'",
    "original-m9": "unknown option 'm9'; known are mstd",
    "3a-inc1": "unknown option 'inc1'",
    "augmix-n2": "unknown option 'n2'; known are m .*; w .*; d .*; a .*; b .*; mstd",
    "augmix-d0": "d takes .* 1 to 3; got '0'",
    "augmix-a0": "a takes .* > 0; got '0'",
    "augmix-w0": "w takes chains, an integer >= 1; got '0'",
    "tv-m31": r"m takes magnitude, an integer in \[0, 30\]; got '31'",
    "tv-n2-m9-mstd0.5": r"unknown option 'mstd0\.5'; known are n .*; m",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_wrong_is_refused_in_words(text):
    with pytest.raises(ValueError, match=f"^'{text}': .*{REFUSED[text]}"):
        parse_policy(text)


def test_noise_above_a_hundred_is_uniform_in_randaugment_alone():
    assert parse_policy("rand-mstd100.5").magnitude_std == math.inf
    assert parse_policy("rand-mstd100").magnitude_std == 100
    assert parse_policy("original-mstd101").magnitude_std == 101
    assert parse_policy("augmix").magnitude_std == math.inf
