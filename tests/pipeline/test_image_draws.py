"""Which operations are on, and in which order, against timm's factory of transforms."""

import numpy as np
import pytest
import timm.data.auto_augment as timm_augment
import torchvision.transforms as tv
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_train

from pipeline.augment.config import AugmentConfig
from pipeline.augment.image_draws import ImageAugmentation, image_augmentation, image_draws
from pipeline.augment.policies.levels import translate_range
from pipeline.augment.policies.operations import RESAMPLING, Filter, Operation
from pipeline.augment.policies.policy import parse_policy
from pipeline.config import CropConfig, InputSpec

SIZE = 96
SPEC = InputSpec(
    size=SIZE, mean=(0.485, 0.456, 0.406), std=(1, 1, 1), crop_pct=0.9, interpolation="bicubic"
)
KEY = {"seed": 0, "epoch": 0, "samples": np.arange(2000)}
RECIPES = [
    {},
    {"auto_augment": "rand-m9-mstd0.5-inc1"},
    {"auto_augment": "rand-m9", "color_jitter": (0.3, 0.2, 0.1, 0.2), "force_color_jitter": True},
    {"auto_augment": "3a", "color_jitter": 0.3},
    {"auto_augment": "rand-t3a", "color_jitter": (0.4, 0.4, 0.0)},
    {"auto_augment": "augmix-m4", "grayscale": 0.2},
    {"auto_augment": "v0", "gaussian_blur": 0.3},
    {"color_jitter": 0.8, "color_jitter_prob": 0.8, "grayscale": 0.2, "gaussian_blur": 0.5},
]


def timms(augment, interpolation):
    """The transforms of timm's factory between the flips and the tensor."""
    _, secondary, _ = transforms_imagenet_train(
        SIZE,
        color_jitter=augment.color_jitter or None,
        color_jitter_prob=None if augment.color_jitter_prob == 1 else augment.color_jitter_prob,
        force_color_jitter=augment.force_color_jitter,
        grayscale_prob=augment.grayscale,
        gaussian_blur_prob=augment.gaussian_blur,
        auto_augment=augment.auto_augment or None,
        interpolation=interpolation,
        mean=SPEC.mean,
        separate=True,
    )
    return list(secondary.transforms)


def limits(strength):
    return None if strength == 0 else (max(0.0, 1 - strength), 1 + strength)


@pytest.mark.parametrize("interpolation", ["random", "bilinear", "bicubic"])
@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_the_chain_is_that_of_timms_factory(recipe, interpolation):
    augment = AugmentConfig(**recipe)
    ours = image_augmentation(augment, CropConfig(interpolation=interpolation), SPEC)
    theirs = timms(augment, interpolation)
    assert ours.is_on == bool(theirs)
    if ours.policy is not None:
        _assert_policy(ours, theirs.pop(0))
    if any(ours.color_jitter):
        jitter, probability = theirs.pop(0), 1.0
        if isinstance(jitter, tv.RandomApply):
            (jitter,), probability = jitter.transforms, jitter.p
        assert isinstance(jitter, tv.ColorJitter)
        assert probability == ours.color_jitter_prob
        assert [jitter.brightness, jitter.contrast, jitter.saturation] == [
            limits(strength) for strength in ours.color_jitter[:3]
        ]
        hue = ours.color_jitter[3]
        assert jitter.hue == ((-hue, hue) if hue else None)
    if ours.grayscale:
        gray = theirs.pop(0)
        assert isinstance(gray, tv.RandomGrayscale)
        assert gray.p == ours.grayscale
    if ours.gaussian_blur:
        blur = theirs.pop(0)
        assert blur.p == ours.gaussian_blur
        assert (blur.transforms[0].kernel_size, blur.transforms[0].sigma) == ((23, 23), (0.1, 2.0))
    assert not theirs


def _assert_policy(ours, theirs):
    choices = theirs.policy if isinstance(theirs, timm_augment.AutoAugment) else [theirs.ops]
    op = choices[0][0]
    names = [[step.operation.name for step in choice] for choice in ours.policy.choices]
    flat = [name for choice in names for name in choice]
    assert flat == [op.name for choice in choices for op in choice]
    assert op.kwargs["fillcolor"] == ours.fill
    limit = translate_range(SIZE, ours.policy.translate_share)
    assert op.hparams["translate_const"] == limit.pixels
    assert op.hparams.get("translate_pct", 0.45) == limit.share
    resample = op.kwargs["resample"]
    if ours.interpolation == "random":
        assert resample == (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    else:
        assert resample == Image.Resampling[ours.interpolation.upper()]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_fixed_interpolation_is_that_of_all_operations(interpolation):
    policy = parse_policy("rand-m9-n4-p1")
    augmentation = ImageAugmentation(policy=policy, interpolation=interpolation)
    chain = image_draws(augmentation, **KEY, size=SIZE).chain
    resampling = np.isin(chain.operations, list(RESAMPLING))
    assert set(chain.filters[resampling]) == {Filter[interpolation.upper()]}
    assert not chain.filters[~resampling].any()


def test_operations_are_drawn_in_timms_order():
    everything = {"color_jitter": (0.3, 0, 0.3, 0), "grayscale": 1.0, "gaussian_blur": 1.0}
    augmentation = ImageAugmentation(policy=parse_policy("3a"), **everything)
    drawn = image_draws(augmentation, **KEY, size=SIZE).chain
    assert drawn.operations.shape[1] == 1 + 2 + 1 + 1
    columns = [set(drawn.operations[:, column].tolist()) for column in range(5)]
    assert columns[0] == {Operation.Solarize, Operation.Desaturate, Operation.GaussianBlur}
    assert columns[1] == columns[2] == {Operation.Brightness, Operation.Color}
    assert columns[3:] == [{Operation.Desaturate}, {Operation.GaussianBlur23}]


def test_no_augmentation_draws_an_empty_chain():
    nothing = ImageAugmentation()
    assert not nothing.is_on
    assert image_draws(nothing, **KEY, size=SIZE).chain.operations.shape == (2000, 0)


def test_the_fill_is_timms_mean_and_torchvisions_black():
    for mean in ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5), (0.4914, 0.4822, 0.4465), (1.0, 0.0, 1.0)):
        expected = tuple(min(255, round(255 * x)) for x in mean)
        assert ImageAugmentation(mean=mean).fill == expected
        assert ImageAugmentation(mean=mean, policy=parse_policy("tv")).fill == (0, 0, 0)


@pytest.mark.parametrize("text", ["rand-m9", "augmix"])
def test_rows_of_draws_are_the_draws_of_those_images(text):
    augmentation = ImageAugmentation(policy=parse_policy(text), grayscale=0.5)
    rows = slice(5, 9)
    part = image_draws(augmentation, **KEY, size=SIZE).rows(rows)
    alone = image_draws(augmentation, seed=0, epoch=0, samples=KEY["samples"][rows], size=SIZE)
    for one, other in zip(part.chain, alone.chain, strict=True):
        np.testing.assert_array_equal(one, other)
    if part.mixed is not None:
        np.testing.assert_array_equal(part.mixed.weights, alone.mixed.weights)
        np.testing.assert_array_equal(part.mixed.shares, alone.mixed.shares)
        np.testing.assert_array_equal(part.mixed.chains.args, alone.mixed.chains.args)
