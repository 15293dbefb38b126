"""The interface that timm and the trainer expect, of every registered model."""

import copy
import re
from functools import partialmethod

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.models._manipulate import reinit_non_persistent_buffers
from timm.optim import param_groups_layer_decay
from torch import nn

import models
from models.build import build_model, compile_in_place, input_config
from models.layers.basic import DropPath
from tests.support.small_models import NAMES, NUM_CLASSES, images, make, randomise

CONVOLUTIONAL = ("splitmixer_i", "stridemixer_i", "convmixer")
"""Of the small models, those with one of each kind of block."""


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
    channels = features.shape[1 if model.output_fmt == "NCHW" else -1]
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
    per_token = model(images(name, dtype=torch.float64))
    assert per_token.ndim == (3 if model.output_fmt == "NLC" else 4)
    assert make(name, num_classes=0)(images(name)).shape == (2, model.num_features)


def test_in_chans_acts(name):
    model = make(name, in_chans=1)
    assert model(images(name)[:, :1]).shape == (2, NUM_CLASSES)


@pytest.mark.parametrize("name", models.names())
def test_default_cfg_has_the_channels_and_the_size_that_were_asked_for(name):
    size = timm.get_pretrained_cfg(name).input_size[1:]
    for given, expected in (({}, size), ({"img_size": 112}, (112, 112))):
        with torch.device("meta"):
            model = timm.create_model(name, in_chans=1, **given)
        assert model.default_cfg["input_size"] == (1, *expected)


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


@pytest.mark.parametrize("name", models.names())
def test_default_cfg_describes_the_model(name):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5)
    config = model.default_cfg
    assert config is model.pretrained_cfg
    if not name.startswith("eamlp"):  # which unfolds the image, without a convolution
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
        if expected.requires_grad:
            assert torch.allclose(actual.grad, expected.grad, rtol=1e-12, atol=1e-14), key


def test_layers_are_grouped_from_the_stem_to_the_head(name):
    model = make(name)
    groups = param_groups_layer_decay(
        model, weight_decay=0.05, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
    )
    scale_of = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    learned = [p for p in model.parameters() if p.requires_grad]
    scales = [scale_of[id(p)] for p in learned]
    assert len(scales) == len(scale_of) == len(learned)
    first = model.default_cfg["first_conv"] or "tokens_to_token.attention1.attn.q_linear"
    assert scale_of[id(model.get_submodule(first).weight)] == min(scales)
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
    outside = (
        *("patch_em", "pos_embed", "cls_token", "tokens_to_token", "tokenizer"),
        *(
            "network",
            "layers",
            "levels",
            "stages",
            "conv_stages.downsample",
            "norm",
            "head",
            "aux_head",
        ),
    )
    for key, _ in model.named_parameters():
        inside = any(key.startswith(f"{block}.") for block in compiled)
        assert inside or key.startswith(outside), key
    assert list(model.state_dict()) == names


@pytest.mark.parametrize(
    ("name", "inside"),
    [("gcresnext26ts", r"stages\.\d\.\d"), ("coatnet_0_224", r"stages\.\d\.blocks\.\d+")],
)
def test_timms_models_are_compiled_by_the_members_of_their_stages(name, inside):
    with torch.device("meta"):
        model = timm.create_model(name)
    compile_in_place(model, blocks=True)
    compiled = [key for key, m in model.named_modules() if m._compiled_call_impl is not None]
    assert len(compiled) >= 8
    assert all(re.fullmatch(inside, key) for key in compiled)


def test_build_model_takes_our_models_and_timms():
    ours = build_model("dynamixer_nano", num_classes=4, img_size=48, drop_path_rate=0.1)
    assert ours(torch.zeros(1, 3, 48, 48)).shape == (1, 4)
    assert input_config(ours).size == (48, 48)
    theirs = build_model("convmixer_768_32", num_classes=4, img_size=64)
    assert input_config(theirs).size == (64, 64)
    assert input_config(theirs).crop_pct == 0.96
    recomputing = build_model("resnet10t", num_classes=4, grad_checkpointing=True)
    assert recomputing.grad_checkpointing


def test_a_batch_may_be_empty(name):
    assert make(name).eval()(images(name)[:0]).shape == (0, NUM_CLASSES)


# What the compiler itself looks at while it traces.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, "eager") for name in NAMES),
        *((f"{family}_256_8", "blocks") for family in CONVOLUTIONAL),
        *((f"{family}_256_8", "whole") for family in CONVOLUTIONAL),
    ],
)
def test_recomputing_blocks_changes_no_statistic_output_or_gradient(name, how, monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    model = randomise(make(name, drop_path_rate=0.0)).train()
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing()
    if how != "eager":
        compile_in_place(twin, blocks=how == "blocks")
    for step in range(2):
        outputs = [each(images(name, seed=step)) for each in (model, twin)]
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
        for output in outputs:
            output.square().mean().backward()
    for (key, expected), actual in zip(model.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6, msg=key)
    for (key, p), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        if not p.requires_grad:
            continue
        torch.testing.assert_close(other.grad, p.grad, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_drop_path_rates_survive_a_change_of_precision(name, dtype):
    model = make(name, drop_path_rate=0.1).to(dtype)
    layers = [module for module in model.modules() if isinstance(module, DropPath)]
    kept = [(layer.kept_draws / 2**24).item() for layer in layers]
    assert kept == pytest.approx([1 - layer.drop_prob for layer in layers], abs=1e-7)
    assert max(layer.drop_prob for layer in layers) == pytest.approx(0.1)


@pytest.mark.parametrize("name", [*NAMES, "amixer_t with a mask"])
def test_buffers_that_are_not_saved_are_restored_by_timm(name):
    name, _, mask = name.partition(" with a ")
    settings = {"drop_path_rate": 0.1, **({"mask_shifted_windows": True} if mask else {})}
    expected = dict(make(name, **settings).named_buffers())
    with torch.device("meta"):
        model = make(name, **settings)
    model.to_empty(device="cpu")
    for buffer in model.buffers():
        buffer.fill_(77)
    reinit_non_persistent_buffers(model)
    for key in expected.keys() - model.state_dict().keys():
        assert torch.equal(model.get_buffer(key), expected[key]), key


@pytest.mark.parametrize("name", ["convmixer_256_8", "splitmixer_ii_256_8"])
def test_a_block_of_the_paper_is_one_layer_for_learning_rates(name):
    model = timm.create_model(name, depth=3)
    layers = group_parameters(model, model.group_matcher())
    assert len(layers) == 5  # stem, three blocks, head
    for block in range(3):
        entries = {int(key.split(".")[1]) for key in layers[block + 1]}
        assert entries == {2 * block, 2 * block + 1}
