"""What a variant is without arguments: the papers' initialisation, rates and input."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from models.build import input_config
from models.layers import DropPath
from tests.small_models import make

AMIXERS = ("amixer_deit_s", "amixer_t", "amixer_s", "amixer_b")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


# The tables of AMixer's paper and code: layer scale, stochastic depth.
@pytest.mark.parametrize(
    ("name", "layer_scale", "drop_path"),
    [
        ("amixer_deit_s", 1e-4, 0.1),
        ("amixer_t", 1e-3, 0.2),
        ("amixer_s", 1e-3, 0.35),
        ("amixer_b", 1e-3, 0.5),
    ],
)
def test_amixers_start_with_the_authors_scale_and_rate(name, layer_scale, drop_path):
    model = make(name)
    gammas = [p for key, p in model.named_parameters() if key.endswith(("gamma1", "gamma2"))]
    assert gammas
    assert all(torch.equal(p, torch.full_like(p, layer_scale)) for p in gammas)
    rates = [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([drop_path * i / (len(rates) - 1) for i in range(len(rates))])


@pytest.mark.parametrize("name", AMIXERS)
def test_banks_and_positions_start_as_the_authors(name):
    model = timm.create_model(name)
    stds = {key: p.std().item() for key, p in model.named_parameters() if "weight_bank" in key}
    assert len(stds) >= 16
    # Of 676 numbers or more each: the standard error of a deviation is below 3 %.
    assert all(std == pytest.approx(0.02, rel=0.15) for std in stds.values()), stds
    if name == "amixer_deit_s":
        assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("name", ["dynamixer_s", "vip_s7", "splitmixer_i_256_8", "convmixer_256_8"])
def test_other_families_have_no_drop_path_unless_asked(name):
    assert not [m for m in make(name).modules() if isinstance(m, DropPath)]


@pytest.mark.parametrize("name", AMIXERS)
def test_only_positional_embeddings_of_amixers_are_spared_from_decay(name):
    assert make(name).no_weight_decay() == ({"pos_embed"} if name == "amixer_deit_s" else set())


def test_a_stage_of_amixer_learns_before_the_merging_behind_it():
    model = make("amixer_t")
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    scale_of = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    for stage, after in zip(model.layers[:-1], model.layers[1:], strict=True):
        last = scale_of[id(stage.blocks[-1].gamma1)]
        merging = scale_of[id(stage.downsample.proj.weight)]
        assert last < merging < scale_of[id(after.blocks[0].gamma1)]


@pytest.mark.parametrize(
    ("name", "size", "crop_pct", "statistics"),
    [
        ("dynamixer_s", 224, 0.9, IMAGENET),
        ("dynamixer_m", 224, 0.9, IMAGENET),
        ("dynamixer_l", 224, 0.875, IMAGENET),
        ("vip_s7", 224, 0.9, IMAGENET),
        ("vip_s14", 224, 0.9, IMAGENET),
        ("vip_m7", 224, 0.9, IMAGENET),
        ("vip_l7", 224, 0.875, IMAGENET),
        *((name, 224, 0.875, IMAGENET) for name in AMIXERS),
        ("splitmixer_768_32", 224, 0.96, IMAGENET),
        ("splitmixer_1536_20", 224, 0.96, IMAGENET),
        ("splitmixer_1024_20_ks9_p14", 224, 0.96, IMAGENET),
        ("splitmixer_i_256_8", 32, 1.0, CIFAR10),
        ("convmixer_256_8", 32, 1.0, CIFAR10),
        ("splitmixer_v_256_8_ks7_p7", 224, 1.0, IMAGENET),
    ],
)
def test_images_are_prepared_as_the_authors_prepare_them(name, size, crop_pct, statistics):
    with torch.device("meta"):
        config = input_config(timm.create_model(name))
    assert config.size == (size, size)
    assert (config.crop_pct, config.interpolation) == (crop_pct, "bicubic")
    assert (config.mean, config.std) == statistics
