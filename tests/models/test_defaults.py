"""What a variant is when nobody says otherwise, against the authors' numbers.

Function and parameter count show nothing of these; a training run from scratch depends on them.
The numbers are those of MODELS.md, MODELS_MLP.md and RECIPES.md, the specification this package was
written from (read in the authors' code, READMEs and commands), not of `models`.
"""

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.optim import param_groups_layer_decay

import models
from models.layers.basic import DropPath
from tests.support.small_models import make

AMIXERS = ("amixer_deit_s", "amixer_t", "amixer_s", "amixer_b")
GFNET_PYRAMIDS = ("gfnet_h_ti", "gfnet_h_s", "gfnet_h_b")

# MODELS.md 4.2 and 4.3, RECIPES.md 2; MODELS_MLP.md 11.
LAYER_SCALE = {
    "amixer_deit_s": 1e-4, "amixer_t": 1e-3, "amixer_s": 1e-3, "amixer_b": 1e-3,
    "gfnet_h_ti": 1e-3, "gfnet_h_s": 1e-5, "gfnet_h_b": 1e-6,
}  # fmt: skip

# MODELS.md 4.2 and 4.3: AMixer's authors fix them in the code, with 17, 16, 32 and 32 blocks. Those
# of DynaMixer and ViP (2.5) come from the command line; ConvMixer and SplitMixer (5, 6) have none.
DROP_PATH = {
    "amixer_deit_s": (0.1, 17),
    "amixer_t": (0.2, 16),
    "amixer_s": (0.35, 32),
    "amixer_b": (0.5, 32),
    # MODELS_MLP.md 11: GFNet's authors fix them too. Those of LV-ViT and EAMLP do not.
    "gfnet_s": (0.15, 19),
    "gfnet_b": (0.25, 19),
    "gfnet_h_ti": (0.1, 19),
    "gfnet_h_s": (0.2, 19),
    "gfnet_h_b": (0.4, 36),
    # MODELS_MLP.md 5.1: of AS-MLP's configurations; 6.1: fixed in sMLPNet's code.
    "as_mlp_tiny": (0.2, 12),
    "as_mlp_small": (0.3, 24),
    "as_mlp_base": (0.5, 24),
    "smlpnet_small": (0.2, 38),
    "smlpnet_base": (0.3, 38),
}
# MODELS_MLP.md 8.1: the same for every block, fixed in the code.
RAFTMLP_DEPTH = {
    "raftmlp_s": 12, "raftmlp_m": 12, "raftmlp_l": 12, "raftmlp_12": 12, "raftmlp_36": 36,
}  # fmt: skip
# MODELS_MLP.md 9: fixed in the code, and starting anew in each of the three stages.
CONVMLP_DROP_PATH = {"convmlp_s": (2, 4, 2), "convmlp_m": (3, 6, 3), "convmlp_l": (4, 8, 3)}

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # MODELS.md 1
CIFAR10 = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}  # RECIPES.md 3.1

# MODELS.md 2.5 and 3.2; RECIPES.md 1 and 2: bicubic. dynamixer_nano, of which no author says
# anything, sees whole images.
CROP = {
    "dynamixer_s": 0.9, "dynamixer_m": 0.9, "dynamixer_l": 0.875, "dynamixer_nano": 1.0,
    "vip_s14": 0.9, "vip_s7": 0.9, "vip_m7": 0.9, "vip_l7": 0.875,
    "amixer_deit_s": 0.875, "amixer_t": 0.875, "amixer_s": 0.875, "amixer_b": 0.875,
    # As ConvMixer's in MODELS.md 5: nothing else is known of SplitMixer's on ImageNet.
    "splitmixer_1536_20": 0.96, "splitmixer_768_32": 0.96, "splitmixer_1024_20_ks9_p14": 0.96,
    # MODELS_MLP.md 2.1, 9, 10, 11.
    "lvvit_t": 0.9, "lvvit_s": 0.9, "lvvit_m": 1.0, "lvvit_l": 1.0,
    "gfnet_ti": 0.875, "gfnet_xs": 0.875, "gfnet_s": 0.875, "gfnet_b": 0.875,
    "gfnet_h_ti": 0.875, "gfnet_h_s": 0.875, "gfnet_h_b": 0.875,
    "convmlp_s": 0.9, "convmlp_m": 0.9, "convmlp_l": 0.9,
    "eamlp_7": 0.9, "eamlp_14": 0.9, "eamlp_19": 0.9, "eamlp_24": 0.9,
    # As Vision Permutator's, whose trunk it has: nothing is known.
    "s2_mlpv2_small_7": 0.9, "s2_mlpv2_medium_7": 0.9,
}  # fmt: skip


def expected_input(name):
    if name.endswith("_256_8"):  # RECIPES.md 3.1: CIFAR, whole images of 32 pixels
        return {"input_size": (3, 32, 32), "crop_pct": 1.0, **CIFAR10}
    if name.endswith("_256_8_ks7_p7"):  # RECIPES.md 3.2: Food-101, resized without a crop
        return {"input_size": (3, 224, 224), "crop_pct": 1.0, **IMAGENET}
    pixels = 32 if name == "dynamixer_nano" else 224
    size = {"input_size": (3, pixels, pixels)}
    # MODELS_MLP.md, common conventions and 8.1: all others evaluate at 224 of 256 pixels.
    crop = {"crop_pct": CROP.get(name, 0.875)}
    interpolation = "bilinear" if name.startswith("raftmlp") else "bicubic"
    return {**size, **crop, "interpolation": interpolation, **IMAGENET}


@pytest.mark.parametrize("name", models.names())
def test_images_are_sized_cropped_and_normalised_as_the_authors(name):
    expected = expected_input(name)
    with torch.device("meta"):
        of_the_model = resolve_model_data_config(timm.create_model(name))
    for config in (of_the_model, timm.get_pretrained_cfg(name).to_dict()):
        assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize("name", models.names())
def test_default_drop_path_is_the_authors(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    rates_of_block: dict[str, set[float]] = {}  # a block drops each of its branches alike
    for key, module in model.named_modules():
        if isinstance(module, DropPath):
            rates_of_block.setdefault(key.rpartition(".")[0], set()).add(module.drop_prob)
    assert all(len(rates) == 1 for rates in rates_of_block.values())
    rates = [rate for rates in rates_of_block.values() for rate in rates]
    highest, depth = DROP_PATH.get(name, (0.1, 0))
    depths = CONVMLP_DROP_PATH.get(name, (depth,))
    expected = [highest * block / (depth - 1) for depth in depths for block in range(depth)]
    if name in RAFTMLP_DEPTH:
        expected = [0.1] * RAFTMLP_DEPTH[name]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("name", LAYER_SCALE)
def test_layer_scale_starts_at_the_authors(name):
    gammas = [p for key, p in make(name).named_parameters() if ".gamma" in key]
    assert len(gammas) >= 5
    assert all(torch.equal(gamma, torch.full_like(gamma, LAYER_SCALE[name])) for gamma in gammas)


@pytest.mark.parametrize("name", AMIXERS)
def test_weight_banks_start_normal_with_the_authors_deviation(name):
    torch.manual_seed(0)
    banks = [p.detach() for key, p in make(name).named_parameters() if "weight_bank" in key]
    draws = torch.cat([bank.flatten() for bank in banks]) / 0.02  # MODELS.md 4.3, Init
    # The standard errors of mean and standard deviation of n draws are 1/sqrt(n), 1/sqrt(2n).
    slack = 5 / draws.numel() ** 0.5
    assert draws.mean().item() == pytest.approx(0, abs=slack)
    assert draws.std().item() == pytest.approx(1, abs=slack / 2**0.5)
    assert draws.abs().max() > 2.5  # not truncated: 1 of 80 draws is larger


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("amixer_deit_s", "pos_embed"),
        ("lvvit_t", "pos_embed"),
        ("lvvit_t", "cls_token"),
        ("gfnet_ti", "pos_embed"),
        ("gfnet_h_ti", "pos_embed"),
        ("eamlp_7", "cls_token"),
        ("gfnet_ti", "blocks.0.filter.complex_weight"),
    ],
)
def test_parameters_of_their_own_start_with_the_authors_deviation(name, parameter):
    torch.manual_seed(0)
    # MODELS.md 4.3, MODELS_MLP.md 2.1, 10 and 11, Init
    draws = make(name).get_parameter(parameter).detach() / 0.02
    slack = 5 / draws.numel() ** 0.5
    assert draws.mean().item() == pytest.approx(0, abs=slack)
    assert draws.std().item() == pytest.approx(1, abs=slack / 2**0.5)


@pytest.mark.parametrize("name", models.names())
def test_positions_and_class_tokens_are_spared_weight_decay(name):
    # RECIPES.md 2: none on pos_embed; banks are decayed. MODELS_MLP.md 2.1, 10, 11.
    expected = set()
    if name == "amixer_deit_s" or name.startswith("gfnet"):
        expected = {"pos_embed"}
    elif name.startswith(("lvvit", "eamlp")):
        expected = {"pos_embed", "cls_token"}
    assert make(name).no_weight_decay() == expected


def scales(name):
    """Learning-rate scale of each parameter under layer-wise decay by a half."""
    model = make(name)
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    scale_of = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    return {key: scale_of[id(p)] for key, p in model.named_parameters()}


@pytest.mark.parametrize("name", [*AMIXERS[1:], "as_mlp_tiny", "cyclemlp_t"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_layer_decay_takes_a_merging_between_the_stages_around_it(name, stage):
    by_key = scales(name)

    def of(prefix):
        found = {scale for key, scale in by_key.items() if key.startswith(prefix)}
        assert found, prefix
        return found

    merging = of(f"layers.{stage}.downsample.")
    assert len(merging) == 1
    assert max(of(f"layers.{stage}.blocks.")) < min(merging)
    assert max(merging) < min(of(f"layers.{stage + 1}.blocks."))


@pytest.mark.parametrize("name", ["smlpnet_tiny", "raftmlp_s"])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_layer_decay_takes_an_embedding_before_its_own_level(name, level):
    by_key = scales(name)
    (embedding,) = {s for key, s in by_key.items() if key.startswith(f"levels.{level}.embed.")}
    before = [s for key, s in by_key.items() if key.startswith(f"levels.{level - 1}.")]
    blocks = [s for key, s in by_key.items() if key.startswith(f"levels.{level}.blocks.")]
    assert max(before) < embedding < min(blocks)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        *(("dynamixer_s", 1), ("dynamixer_m", 2), ("vip_s7", 1)),
        *(("cyclemlp_b1", 3), ("hire_mlp_tiny", 5), ("s2_mlpv2_small_7", 1)),
    ],
)
def test_layer_decay_takes_a_downsampling_between_the_stages_around_it(name, index):
    by_key = scales(name)
    (downsampling,) = {s for key, s in by_key.items() if key.startswith(f"network.{index}.")}
    before = [s for key, s in by_key.items() if key.startswith(f"network.{index - 1}.")]
    after = [s for key, s in by_key.items() if key.startswith(f"network.{index + 1}.")]
    assert max(before) < downsampling < min(after)
