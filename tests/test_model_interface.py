"""The interface that timm and the trainer expect, of every registered model."""

import copy
from functools import partialmethod

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn

from models.build import build_model, compile_in_place, input_config
from models.layers import DropPath
from tests.small_models import NAMES, NUM_CLASSES, images, make, randomise


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_forward_is_features_then_head(name):
    model = make(name).eval()
    batch = images(name)
    with torch.no_grad():
        features = model.forward_features(batch)
        assert torch.equal(model.forward_head(features), model(batch))
        pooled = model.forward_head(features, pre_logits=True)
    channels = features.shape[1 if model.output_fmt == "NCHW" else 3]
    assert pooled.shape == (len(batch), channels)
    assert channels == model.num_features == model.head_hidden_size


def test_classifier_can_be_replaced_and_removed(name):
    model = make(name)
    assert model.get_classifier().out_features == model.num_classes == NUM_CLASSES
    model.double().eval().reset_classifier(3)
    assert model.num_classes == 3
    assert model.get_classifier() is model.head
    assert model(images(name, dtype=torch.float64)).shape == (2, 3)
    model.reset_classifier(0, global_pool="")
    assert isinstance(model.get_classifier(), nn.Identity)
    assert model(images(name, dtype=torch.float64)).ndim == 4
    assert make(name, num_classes=0)(images(name)).shape == (2, model.num_features)


def test_in_chans_acts(name):
    model = make(name, in_chans=1)
    assert model(images(name)[:, :1]).shape == (2, NUM_CLASSES)


def test_dropout_before_the_classifier_acts(name):
    model = make(name, drop_rate=0.5, drop_path_rate=0.0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    assert not torch.equal(model(images(name)), model(images(name)))
    features = torch.ones(2, 4, 4, model.num_features)
    features = features.permute(0, 3, 1, 2) if model.output_fmt == "NCHW" else features
    dropped = model.forward_head(features, pre_logits=True)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_unknown_keyword_is_refused(name):
    with pytest.raises(TypeError, match="drop_paht_rate"):
        make(name, drop_paht_rate=0.1)


def test_default_cfg_describes_the_model(name):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5)
    config = model.default_cfg
    assert config is model.pretrained_cfg
    assert isinstance(model.get_submodule(config["first_conv"]), nn.Conv2d)
    assert model.get_submodule(config["classifier"]) is model.head
    assert input_config(model).size == tuple(config["input_size"][1:])


def test_gradient_checkpointing_changes_no_gradient(name):
    model = randomise(make(name, drop_path_rate=0.0)).double().eval()
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing(enable=True)
    for each in (model, twin):
        each(images(name, dtype=torch.float64)).square().sum().backward()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda x: x):
        twin(images(name, dtype=torch.float64))
    bytes_checkpointed = sum(tensor.nbytes for tensor in saved)
    saved.clear()
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda x: x):
        model(images(name, dtype=torch.float64))
    assert bytes_checkpointed < sum(tensor.nbytes for tensor in saved)
    for (key, expected), actual in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(actual.grad, expected.grad, rtol=1e-12, atol=1e-14), key


def test_layers_are_grouped_from_the_stem_to_the_head(name):
    model = make(name)
    groups = param_groups_layer_decay(
        model, weight_decay=0.05, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
    )
    scale_of = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    scales = [scale_of[id(p)] for p in model.parameters()]
    assert len(scales) == len(scale_of) == len(list(model.parameters()))
    assert scale_of[id(model.get_submodule(model.default_cfg["first_conv"]).weight)] == min(scales)
    assert scale_of[id(model.head.weight)] == max(scales) == 1.0
    assert len(set(scales)) >= 4
    assert model.no_weight_decay() <= {key for key, _ in model.named_parameters()}
    assert model.group_matcher(coarse=True)


def test_blocks_are_found_and_compiling_changes_no_name(name):
    model = make(name)
    names = list(model.state_dict())
    compile_in_place(model, blocks=True)
    compiled = {key for key, m in model.named_modules() if m._compiled_call_impl is not None}
    assert len(compiled) >= 3
    outside = ("patch_em", "head", "norm", "network", "layers", "pos_embed")
    for key, _ in model.named_parameters():
        inside = any(key.startswith(f"{block}.") for block in compiled)
        assert inside or key.startswith(outside), key
    assert list(model.state_dict()) == names


def test_build_model_takes_our_models_and_timms():
    ours = build_model("dynamixer_nano", num_classes=4, img_size=48, drop_path_rate=0.1)
    assert ours(torch.zeros(1, 3, 48, 48)).shape == (1, 4)
    assert input_config(ours).size == (48, 48)
    theirs = build_model("convmixer_768_32", num_classes=4, img_size=64)
    assert input_config(theirs).size == (64, 64)
    assert input_config(theirs).crop_pct == 0.96
    recomputing = build_model("resnet10t", num_classes=4, grad_checkpointing=True)
    assert recomputing.grad_checkpointing


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "dynamixer_x",
            {},
            r"model\.name: unknown variant 'dynamixer_x'; did you mean 'dynamixer_",
        ),
        ("vip_s8", {}, r"unknown variant 'vip_s8'; did you mean .*'vip_s"),
        ("qqqqqqqq", {}, r"unknown variant 'qqqqqqqq'; see tools/model_zoo\.py"),
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
        ("amixer_deit_s", {"bank_size": 0}, "bank_size: expected whole numbers of at least 1"),
        ("amixer_deit_s", {"num_heads": 7}, "num_heads: 7 does not divide .* 384; use a divisor"),
        ("amixer_t", {"mlp_ratio": 0}, "mlp_ratio: must be above 0, got 0"),
        ("amixer_t", {"window_sizes": 7}, "window_sizes: give a number for each of the 4 stages"),
        ("splitmixer_i_256_8", {"segments": 4}, "segments: 4 has no effect with split='i'.*'ii'"),
        ("splitmixer_iii_256_8", {"ratio": 0.5}, "ratio: 0.5 has no effect with split='iii'"),
        ("stridemixer_i_256_8", {"stride": 0}, "stride: expected whole numbers of at least 1"),
        ("splitmixer_i_256_8", {"patch_size": 0}, "patch_size: expected whole numbers"),
    ],
)
def test_impossible_settings_are_refused_in_words(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model(name, **arguments)


@pytest.mark.parametrize("name", ["dynamixer_nano", "vip_s7", "amixer_deit_s", "amixer_t"])
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


def test_a_batch_may_be_empty(name):
    assert make(name).eval()(images(name)[:0]).shape == (0, NUM_CLASSES)


@pytest.mark.parametrize("rate", [1.0, 1.5, -0.5, float("nan")])
def test_rates_of_dropping_that_cannot_be_are_refused(name, rate):
    for argument in ("drop_path_rate", "drop_rate"):
        with pytest.raises(ValueError, match=rf"{argument}: must be in \[0, 1\), got {rate}"):
            make(name, **{argument: rate})


def test_a_classifier_of_less_than_no_classes_is_refused(name):
    model = make(name)
    with pytest.raises(ValueError, match="num_classes: must be at least 0"):
        model.reset_classifier(-1)
    assert model.num_classes == model.get_classifier().out_features == NUM_CLASSES


# What the compiler itself looks at while it traces.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("blocks", [None, False, True], ids=["eager", "whole", "by block"])
@pytest.mark.parametrize("name", ["splitmixer_i_256_8", "convmixer_256_8", "vip_s7"])
def test_recomputing_a_block_counts_a_batch_once(name, blocks, monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    model = randomise(make(name, drop_path_rate=0.0)).train()
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing()
    if blocks is not None:
        compile_in_place(twin, blocks=blocks)
    for step in range(2):
        for each in (model, twin):
            each(images(name, seed=step)).square().mean().backward()
    expected = {**dict(model.named_buffers()), **{k: p.grad for k, p in model.named_parameters()}}
    actual = {**dict(twin.named_buffers()), **{k: p.grad for k, p in twin.named_parameters()}}
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_drop_path_rates_survive_a_change_of_precision(name, dtype):
    model = make(name, drop_path_rate=0.1).to(dtype)
    layers = [module for module in model.modules() if isinstance(module, DropPath)]
    kept = [(layer.kept_draws / 2**24).item() for layer in layers]
    assert kept == pytest.approx([1 - layer.drop_prob for layer in layers], abs=1e-7)
    assert layers[-1].drop_prob == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["convmixer_256_8", "splitmixer_ii_256_8"])
def test_a_block_of_the_paper_is_one_layer_for_learning_rates(name):
    model = timm.create_model(name, depth=3)
    layers = group_parameters(model, model.group_matcher())
    assert len(layers) == 5  # stem, three blocks, head
    for block in range(3):
        entries = {int(key.split(".")[1]) for key in layers[block + 1]}
        assert entries == {2 * block, 2 * block + 1}
