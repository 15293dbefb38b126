"""What cannot be is refused in words: names, constructor arguments and images, of every model."""

import re

import pytest
import timm
import torch

from models.build import build_model, input_config
from tests.support.small_models import NAMES, NUM_CLASSES, STRUCTURES, images, make

SIZED = [
    name
    for name in STRUCTURES
    # RaftMLP interpolates what is of another size.
    if timm.get_pretrained_cfg(name).fixed_input_size and not name.startswith("raftmlp")
]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "dynamixer_x",
            {},
            r"model\.name: unknown variant 'dynamixer_x'; did you mean 'dynamixer_",
        ),
        ("vip_s8", {}, r"unknown variant 'vip_s8'; did you mean .*'vip_s"),
        ("qqqqqqqq", {}, r"unknown variant 'qqqqqqqq'; docs/model_zoo\.md lists all"),
        (
            "convmixer_768_32",
            {"drop_path_rate": 0.1},
            r"model\.drop_path_rate: convmixer_768_32 has no drop path; leave it out",
        ),
        (
            "dynamixer_s",
            {"drop_path_rate": 1.0},
            r"model\.drop_path_rate: must be in \[0, 1\), got",
        ),
        ("dynamixer_s", {"num_classes": 0}, r"model\.num_classes: must be at least 1, got 0"),
        ("dynamixer_s", {"img_size": 10}, r"img_size 10x10 is too small: .* at least 14x14"),
        ("vip_s14", {"img_size": 13}, r"img_size 13x13 is too small: .* at least 14x14"),
        ("splitmixer_i_256_8", {"img_size": 1}, "image of 1x1 pixels is smaller than one patch"),
        ("convmixer_768_32", {"img_size": -1}, r"img_size: expected a number of pixels.* got -1"),
        ("convmixer_768_32", {"img_size": 6}, "6x6 is too small: .* ConvMixer needs at least 7x7"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, **{"num_classes": 2, **arguments})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dynamixer_nano", {"segments": 5}, "segments: 5 does not divide the width 64"),
        ("dynamixer_nano", {"segments": (4, 8, 8)}, "give one number for each of the 2 stages"),
        ("dynamixer_nano", {"generator": "dynamik"}, "expected one of .*'dense'.* got 'dynamik'"),
        (
            "dynamixer_nano",
            {"column": False, "row": False, "channel": False},
            "column, row and channel are all false",
        ),
        ("dynamixer_nano", {"shared": True, "img_size": (32, 40)}, "shared: needs a square"),
        ("dynamixer_nano", {"shared": True, "row": False}, "shared: needs both"),
        ("dynamixer_nano", {"depths": (1, 1, 1)}, "give one depth and one width per stage"),
        (
            "vip_s14",
            {"segment_dim": 7},
            "segment_dim: 7 channel groups do not divide the width 384",
        ),
        ("vip_s14", {"global_pool": "max"}, "expected 'avg' or '' .*, got 'max'"),
        (
            "vip_s14",
            {"depths": (4, 3, 8, 0)},
            r"depths: expected whole numbers .* got \(4, 3, 8, 0",
        ),
        ("vip_s14", {"patch_size": 0}, "patch_size: expected whole numbers of at least 1, got 0"),
        ("vip_s14", {"img_size": 224.0}, r"img_size: expected a number of pixels, .* got 224\.0"),
        ("amixer_t", {"img_size": (224,)}, r"img_size: expected .*\(height, width\).* got \(224,"),
        ("dynamixer_nano", {"reduced_dim": 0}, "reduced_dim: expected whole numbers of at least 1"),
        (
            "dynamixer_nano",
            {"generator": "random", "reduced_dim": 8},
            "reduced_dim: only the dynamic generator has one, not 'random'",
        ),
        ("dynamixer_nano", {"dims": 64}, "dims: give a sequence, one number for each stage, got 6"),
        ("dynamixer_nano", {"segments": 4.0}, r"segments: expected whole numbers .* got 4\.0"),
        ("dynamixer_nano", {"dims": (2, 8), "segments": 1}, "a width of at least 4, got 2"),
        ("vip_s14", {"mlp_ratio": 0.001}, r"mlp_ratio: .* 1 channel of 384, got 0\.001"),
        ("vip_s14", {"num_classes": 2.5}, r"num_classes: must be a whole number .* got 2\.5"),
        ("amixer_t", {"embed_dim": 3}, "embed_dim: must be at least 4, got 3"),
        ("splitmixer_i_256_8", {"ratio": float("nan")}, "ratio: must be a number .* got nan"),
        ("splitmixer_ii_256_8", {"segments": "2"}, "segments: expected whole numbers .* got '2'"),
        ("amixer_deit_s", {"bank_size": 0}, "bank_size: expected whole numbers of at least 1"),
        ("amixer_deit_s", {"num_heads": 7}, "num_heads: 7 does not divide .* 384; use a divisor"),
        ("amixer_t", {"mlp_ratio": 0}, "mlp_ratio: .* at least 1 channel of 96, got 0"),
        ("amixer_t", {"window_sizes": 7}, "window_sizes: give a number for each of the 4 stages"),
        ("splitmixer_i_256_8", {"segments": 4}, "segments: 4 has no effect with split='i'.*'ii'"),
        ("splitmixer_iii_256_8", {"ratio": 0.5}, "ratio: 0.5 has no effect with split='iii'"),
        ("stridemixer_i_256_8", {"stride": 0}, "stride: expected whole numbers of at least 1"),
        ("splitmixer_i_256_8", {"patch_size": 0}, "patch_size: expected whole numbers"),
        (
            "lvvit_t",
            {"num_heads": 7},
            "num_heads: 7 does not divide .* 240; use a divisor, such as 1",
        ),
        ("lvvit_t", {"residual_divisor": 0}, "residual_divisor: must be greater than 0, got 0"),
        ("lvvit_t", {"stem_width": -1}, "stem_width: expected whole numbers of at least 1, got -1"),
        ("lvvit_t", {"img_size": 14}, "img_size 14x14 is too small: a token is 16x16 pixels"),
        ("lvvit_t", {"global_pool": "avg"}, "global_pool: expected 'token' or '' .*, got 'avg'"),
        ("gfnet_ti", {"depths": (3, 4)}, r"dims \(256,\), depths \(3, 4\) do not fit: give one"),
        ("gfnet_ti", {"img_size": 15}, "img_size 15x15 is too small: patches of 16 pixels"),
        ("gfnet_h_ti", {"img_size": 31}, "img_size 31x31 is too small: .* at least 32x32"),
        ("convmlp_s", {"dims": (8, 16)}, r"depths \(2, 4, 2\), dims \(8, 16\) do not fit"),
        ("convmlp_s", {"token_dim": 1}, "token_dim: must be at least 2, got 1"),
        ("convmlp_s", {"img_size": 3}, "image of 3x3 pixels is smaller than one patch of 4x4"),
        ("eamlp_7", {"img_size": 2}, "img_size 2x2 is too small: the first tokens are of 7x7"),
        ("eamlp_7", {"num_heads": 3}, "num_heads: 3 does not divide the width 256"),
        ("eamlp_7", {"token_drop_rate": 1.0}, r"token_drop_rate: must be in \[0, 1\), got 1\.0"),
        ("cyclemlp_b1", {"mlp_ratios": (4, 4)}, r"mlp_ratios \(4, 4\) do not fit: give one number"),
        (
            "cyclemlp_b1",
            {"mlp_ratios": 4},
            "mlp_ratios: give a sequence, one number for each stage",
        ),
        ("cyclemlp_b1", {"depths": (2, 2)}, r"depths \(2, 2\), dims .* do not fit"),
        ("cyclemlp_b1", {"img_size": 2}, "image of 2x2 pixels is too small: .* least 3x3"),
        ("cyclemlp_t", {"img_size": 3}, "image of 3x3 pixels is smaller than one patch of 4x4"),
        (
            "hire_mlp_tiny",
            {"img_size": (224, 18)},
            r"in stage 3 a line of 1 tokens .* multiple of 3",
        ),
        ("hire_mlp_tiny", {"regions": (4, 3, 3)}, r"regions \(4, 3, 3\), .* do not fit"),
        (
            "as_mlp_tiny",
            {"shift_size": 0},
            "shift_size: expected whole numbers of at least 1, got 0",
        ),
        ("as_mlp_tiny", {"mlp_ratio": 0}, "mlp_ratio: .* at least 1 channel of 96, got 0"),
        ("smlpnet_tiny", {"img_size": 31}, "img_size 31x31 is too small: .* at least 32x32"),
        ("raftmlp_s", {"raft_size": 3}, "raft_size: 3 does not divide the width 64"),
        ("raftmlp_s", {"kernels": ((4,), (2,), (2,))}, "kernels .* do not fit: give one number"),
        ("raftmlp_s", {"kernels": ((4, 7), (2,), (2,), (2,))}, r"kernels: \(4, 7\): the first is"),
        ("raftmlp_s", {"kernels": ((), (2,), (2,), (2,))}, "kernels: expected whole numbers"),
        (
            "raftmlp_12",
            {"img_size": 15},
            "image of 15x15 pixels is smaller than one patch of 16x16",
        ),
        ("s2_mlpv2_small_7", {"dims": (6, 8, 8, 8)}, "dims: .* 4 does not divide 6"),
        ("s2_mlpv2_small_7", {"img_size": 13}, "img_size 13x13 is too small: .* at least 14x14"),
    ],
)
def test_impossible_settings_are_refused_in_words(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model(name, **arguments)


@pytest.mark.parametrize("name", [*SIZED])
@pytest.mark.parametrize("more", [(0, 1), (1, 0), (40, 24), (-1, -1)])
def test_images_of_another_size_are_refused_in_words(name, more):
    side = input_config(model := make(name)).size[0]
    height, width = side + more[0], side + more[1]
    with pytest.raises(
        ValueError, match=rf"{side}x{side} pixels, got {height}x{width}; create it with"
    ):
        model(torch.zeros(1, 3, height, width))


def test_what_are_no_images_for_the_model_is_refused_in_words(name):
    model = make(name)
    batch = images(name)
    for wrong in (batch[:, :1], batch[0], batch[:, :, :, 0]):
        with pytest.raises(ValueError, match=r"expected images of shape \(batch, 3, height, width"):
            model(wrong)
    with pytest.raises(ValueError, match=r"got 1x1|an image of 1x1"):
        model(batch[:, :, :1, :1])


@pytest.mark.parametrize("rate", [1.0, 1.5, -0.5, float("nan"), "a"])
def test_rates_of_dropping_that_cannot_be_are_refused(name, rate):
    for argument in ("drop_path_rate", "drop_rate"):
        with pytest.raises(ValueError, match=rf"{argument}: must be in \[0, 1\), got {rate!r}"):
            make(name, **{argument: rate})


def test_a_classifier_of_less_than_no_classes_is_refused(name):
    model = make(name)
    with pytest.raises(ValueError, match="num_classes: must be a whole number of at least 0"):
        model.reset_classifier(-1)
    assert model.num_classes == model.get_classifier().out_features == NUM_CLASSES


def test_build_model_passes_on_what_the_constructor_takes():
    torch.manual_seed(0)
    plain = build_model("dynamixer_nano", num_classes=2)
    torch.manual_seed(0)
    same = build_model("dynamixer_nano", num_classes=2, arguments={"drop_rate": 0.0})
    assert all(map(torch.equal, plain.state_dict().values(), same.state_dict().values()))
    dropping = build_model("dynamixer_nano", num_classes=2, arguments={"drop_rate": 0.5})
    assert any(
        getattr(m, "p", None) == 0.5 or getattr(m, "drop_rate", None) == 0.5
        for m in dropping.modules()
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"drop_rat": 0.1}, "did you mean 'drop_rate'"),
        ({"xyz": 1}, "takes no 'xyz'; known: "),
        ({"img_size": 64}, "write model.img_size"),
        ({"in_chans": 1}, "takes no 'in_chans'"),
        ({"drop_rate": "1e-1"}, "model.args.drop_rate: expected a number such as 0.0, got '1e-1'"),
    ],
)
def test_an_argument_that_the_constructor_does_not_take_is_refused(arguments, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        build_model("dynamixer_nano", num_classes=2, arguments=arguments)
