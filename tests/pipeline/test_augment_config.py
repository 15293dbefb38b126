"""The configuration of augmentation: what cannot be or would be ignored is refused in words."""

import numpy as np
import pytest

from pipeline.augment.config import AugmentConfig, ResolutionConfig

REFUSED = [
    ({"auto_augment": "rand-z1"}, "^auto_augment 'rand-z1': unknown option 'z1'"),
    (
        {"auto_augment": "rand-m9-mstd0.5", "color_jitter": 0.4},
        r"color_jitter 0\.4 has no effect beside auto_augment 'rand-m9-mstd0.5', as in timm;"
        " leave it out, or set force_color_jitter",
    ),
    ({"auto_augment": "augmix", "color_jitter": (0.4, 0.4, 0.4, 0.1)}, "has no effect beside"),
    ({"force_color_jitter": True, "color_jitter": 0.4}, "force_color_jitter has no effect without"),
    (
        {"force_color_jitter": True, "auto_augment": "v0"},
        "force_color_jitter has no effect without",
    ),
    (
        {"force_color_jitter": True, "auto_augment": "3a", "color_jitter": 0.3},
        "force_color_jitter has no effect without",
    ),
    ({"color_jitter_prob": 0.5}, "color_jitter_prob 0.5 has no effect without color_jitter"),
    ({"color_jitter": -0.1}, "color_jitter must be >= 0"),
    ({"color_jitter": (0.1, 0.1, 0.1, 0.6)}, "at most 0.5 for the hue"),
    ({"grayscale": 1.1}, "grayscale must be a probability, got 1.1"),
    ({"gaussian_blur": -0.1}, "gaussian_blur must be a probability, got -0.1"),
    ({"repeats": 0}, "repeats must be >= 1"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_or_has_no_effect_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**options)


@pytest.mark.parametrize(
    ("jitter", "strengths"),
    [
        (0.0, (0, 0, 0, 0)),
        (0.4, (0.4, 0.4, 0.4, 0)),
        ((0.1, 0.2, 0.3), (0.1, 0.2, 0.3, 0)),
        ((0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_one_strength_of_jitter_is_that_of_all_but_the_hue(jitter, strengths):
    assert AugmentConfig(color_jitter=jitter).jitter_strengths == strengths


def test_images_grow_as_in_ffcv_imagenet():
    ramp = ResolutionConfig(min_res=160, max_res=224, start_ramp=4, end_ramp=13)
    augment = AugmentConfig(resolution=ramp)
    for epoch in range(20):
        between = np.interp([epoch], [4, 13], [160, 224])
        expected = int(np.round(between[0] / 32)) * 32
        assert augment.size_at(epoch, 999) == expected
    assert AugmentConfig().size_at(7, 999) == 999


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((100, 224, 0, 5), "must be multiples of 32 .* got 100 and 224"),
        ((224, 160, 0, 5), "got 224 and 160"),
        ((0, 160, 0, 5), "got 0 and 160"),
        ((96, 160, 5, 5), "0 <= start_ramp < end_ramp, got 5 and 5"),
        ((96, 160, -1, 5), "got -1 and 5"),
    ],
)
def test_sizes_and_ramps_that_cannot_be_are_refused(values, message):
    names = ("min_res", "max_res", "start_ramp", "end_ramp")
    with pytest.raises(ValueError, match=message):
        ResolutionConfig(**dict(zip(names, values, strict=True)))
