"""Exact numbers of parameters. Sources: the authors' code, and the table of DynaMixer's slides."""

import pytest
import timm
import torch

import models
from tests.support.authors_weights import KEYS, our_name

PUBLISHED = {
    "dynamixer_s": 26_265_960,
    "dynamixer_m": 57_128_264,
    "dynamixer_l": 97_818_088,
    "vip_s14": 29_892_904,
    "vip_s7": 25_114_984,
    "vip_m7": 55_272_488,
    "vip_l7": 87_784_936,
    "amixer_deit_s": 21_927_128,
    "amixer_t": 25_757_586,
    "amixer_s": 45_842_226,
    "amixer_b": 81_444_396,
    "splitmixer_1536_20": 23_558_120,
    "splitmixer_768_32": 9_829_864,
    "splitmixer_1024_20_ks9_p14": 11_478_784,
    "convmixer_1536_20": 51_625_960,
    "convmixer_768_32": 21_110_248,
    "convmixer_1024_20_ks9_p14": 24_383_464,
    "splitmixer_i_256_8": 275_834,
    "splitmixer_ii_256_8": 175_370,
    "splitmixer_iii_256_8": 175_370,
    "splitmixer_iv_256_8": 307_466,
    "splitmixer_v_256_8": 508_394,
    "convmixer_256_8": 594_186,
    "stridemixer_i_256_8": 218_378,
    "stridemixer_iii_256_8": 175_370,
    "splitmixer_i_256_8_ks7_p7": 341_973,
    "splitmixer_ii_256_8_ks7_p7": 241_509,
    "splitmixer_iii_256_8_ks7_p7": 241_509,
    "splitmixer_iv_256_8_ks7_p7": 373_605,
    "splitmixer_v_256_8_ks7_p7": 574_533,
    "convmixer_256_8_ks7_p7": 701_285,
    "lvvit_t": 8_534_720,
    "lvvit_s": 26_151_824,
    "lvvit_m": 55_830_544,
    "lvvit_l": 150_021_968,
    "gfnet_ti": 7_511_784,
    "gfnet_xs": 15_985_768,
    "gfnet_s": 24_869_608,
    "gfnet_b": 43_120_616,
    "gfnet_h_ti": 15_085_096,
    "gfnet_h_s": 32_162_632,
    "gfnet_h_b": 53_744_200,
    "convmlp_s": 9_022_920,
    "convmlp_m": 17_410_504,
    "convmlp_l": 42_728_440,
    "eamlp_7": 6_146_638,
    "eamlp_14": 29_877_070,
    "eamlp_19": 54_559_054,
    "eamlp_24": 89_456_590,
    "cyclemlp_b1": 15_155_400,
    "cyclemlp_b2": 26_802_504,
    "cyclemlp_b3": 38_385_720,
    "cyclemlp_b4": 51_796_552,
    "cyclemlp_b5": 75_747_280,
    "hire_mlp_tiny": 18_041_672,
    "hire_mlp_small": 33_113_848,
    "hire_mlp_base": 58_226_856,
    "hire_mlp_large": 95_723_944,
    "as_mlp_tiny": 28_282_696,
    "as_mlp_small": 49_594_696,
    "as_mlp_base": 87_752_808,
    "smlpnet_tiny": 24_123_584,
    "smlpnet_small": 48_558_136,
    "smlpnet_base": 65_880_408,
    "raftmlp_s": 9_868_768,
    "raftmlp_m": 21_413_632,
    "raftmlp_l": 36_184_672,
    "raftmlp_12": 58_390_696,
    "raftmlp_36": 43_532_296,
}
# Of MODELS_MLP.md: authors' code not published, so these are of readings that fit the papers.
AFTER_THE_PAPER = {
    "cyclemlp_t": 28_265_032,
    "cyclemlp_s": 49_558_600,
    "cyclemlp_b": 87_704_680,
    "s2_mlpv2_small_7": 25_113_448,
    "s2_mlpv2_medium_7": 55_269_864,
}
OUR_OWN = {"dynamixer_nano": 508_874, **AFTER_THE_PAPER}

ABLATIONS = {
    "one segment": ({"segments": 1}, 25_920_944),
    "segments of 96": ({"segments": (2, 4, 4, 4)}, 25_988_712),
    "segments of 48": ({"segments": (4, 8, 8, 8)}, 26_081_128),
    "segments of 24": ({"segments": (8, 16, 16, 16)}, 26_265_960),
    "d = 1": ({"reduced_dim": 1}, 25_704_296),
    "d = 2": ({"reduced_dim": 2}, 26_265_960),
    "d = 4": ({"reduced_dim": 4}, 27_389_288),
    "d = 8": ({"reduced_dim": 8}, 29_635_944),
    "random": ({"generator": "random"}, 25_307_496),
    "dense": ({"generator": "dense"}, 32_718_184),
    "no column mixing": ({"column": False}, 22_919_528),
    "no row mixing": ({"row": False}, 22_919_528),
    "no channel branch": ({"channel": False}, 23_495_016),
    "no reweighting": ({"reweight": False}, 24_034_152),
    "shared operation": ({"shared": True}, 23_478_632),
}


OTHER_SIZES = {
    ("lvvit_s", 384): 26_297_744,
    ("lvvit_m", 384): 56_025_104,
    ("lvvit_m", 448): 56_131_600,
    ("lvvit_l", 288): 150_120_272,
    ("lvvit_l", 448): 150_473_552,
    ("lvvit_l", 512): 150_657_872,
}

LEARNED = {
    "eamlp_7": 6_096_206,
    "eamlp_14": 29_801_422,
    "eamlp_19": 54_470_798,
    "eamlp_24": 89_355_726,
}


def parameters(name, **settings):
    with torch.device("meta"):
        model = timm.create_model(name, **settings)
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_variant_has_a_count_here():
    assert set(models.names()) <= PUBLISHED.keys() | OUR_OWN.keys()


@pytest.mark.parametrize("name", PUBLISHED | OUR_OWN)
def test_parameters_are_the_authors(name):
    assert parameters(name) == (PUBLISHED | OUR_OWN)[name]


@pytest.mark.parametrize(("name", "pixels"), OTHER_SIZES)
def test_parameters_at_other_sizes_are_the_authors(name, pixels):
    assert parameters(name, img_size=pixels) == OTHER_SIZES[name, pixels]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lvvit", 25_766_824),
        ("lvvit_repo_vit", 24_405_352),
        ("r-2", 58_162_888),
        ("r-1", 58_105_432),
        ("r-2-cross-mlp-emb", 60_522_184),
        ("hierarchy-m", 19_920_640),
    ],
)
def test_parameters_of_the_authors_other_settings(name, expected):
    registered, arguments = models.resolve(name)
    assert parameters(registered, **arguments) == expected


@pytest.mark.parametrize("name", LEARNED)
def test_eamlps_positions_do_not_learn(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    fixed = [key for key, p in model.named_parameters() if not p.requires_grad]
    assert fixed == ["pos_embed"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == LEARNED[name]


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_parameters_of_dynamixers_ablations(ablation):
    settings, expected = ABLATIONS[ablation]
    assert parameters("dynamixer_s", **settings) == expected


AS_PUBLISHED = ("dynamixer_s", "vip_m7", "splitmixer_v_256_8_cifar10")


@pytest.mark.parametrize(
    "published",
    [n for n in KEYS if n in AS_PUBLISHED or n.startswith(("lvvit", "gfnet", "convmlp", "eamlp"))],
)
def test_names_and_shapes_in_the_state_dict_are_the_authors(published):
    with torch.device("meta"):
        arguments = models.resolve(published)[1]
        weights = timm.create_model(our_name(published), **arguments).state_dict()
    assert {key: list(value.shape) for key, value in weights.items()} == KEYS[published]
