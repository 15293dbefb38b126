"""What holds for every registered model, whatever its family: the function that it computes."""

import logging
import re
import sys
import types

import pytest
import timm
import torch
from torch import nn

import models
from models.layers.basic import DropPath, drop_path_rates
from models.layers.norms import BatchNorm, ImageNorm
from models.layers.rafts import CrossEmbed
from tests.support.small_models import (
    NAMES,
    SAME_WHEN_SMALL,
    images,
    make,
    make_plain,
    randomise,
    settings,
)

# Both sides are float64 and differ in the order of additions only.
RTOL = 1e-9

EAMLP_IDLE = r"pos_embed|blocks\.\d+\.(norm1|attn\.trans_dims|attn\.linear_0)\.bias"
"""Parameters that nothing depends on, which its authors have: the positions are a function, and a
softmax over the tokens cancels whatever is added to all of them."""


def relative_error(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize("name", models.names())
def test_names_are_in_timms_registry(name):
    assert timm.is_model(name)


@pytest.mark.parametrize(("name", "same"), SAME_WHEN_SMALL.items())
def test_what_is_not_tested_when_small_is_what_is(name, same):
    left_out, tested = (make(each, drop_path_rate=0.0).double().eval() for each in (name, same))
    left_out.load_state_dict(randomise(tested).state_dict())
    batch = images(name, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(left_out(batch), tested(batch))


def test_authors_names_are_of_registered_models_and_are_not_registered():
    assert models.resolve("T2t_vit_14") == ("eamlp_14", {})
    assert models.resolve("gfnet-h-b") == ("gfnet_h_b", {})
    assert models.resolve("dynamixer_s") == ("dynamixer_s", {})
    for theirs, (ours, arguments) in models._AUTHORS_NAMES.items():
        assert not timm.is_model(theirs), theirs
        with torch.device("meta"):
            timm.create_model(ours, **arguments)


def test_a_name_that_timm_has_is_refused(monkeypatch):
    family = types.ModuleType("models.another")
    family.__all__ = ["resnet18"]
    monkeypatch.setitem(sys.modules, "models.another", family)
    with pytest.raises(ImportError, match=r"models/another\.py registers resnet18, which timm"):
        models._register(("another",))


@pytest.mark.parametrize("build", [make, make_plain])
def test_counting_on_the_meta_device_leaves_nothing_behind(name, build):
    with torch.device("meta"):
        build(name)
    model = build(name)
    assert {x.device.type for x in (*model.parameters(), *model.buffers())} == {"cpu"}


def test_outputs_and_gradients_are_the_plain_transcriptions(name):
    ours, plain = make(name, drop_path_rate=0.0).double(), make_plain(name).double()
    ours.load_state_dict(randomise(plain).state_dict())
    results = []
    for model in (ours, plain):
        leaf = images(name, dtype=torch.float64).requires_grad_()
        output = model(leaf)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        gradients = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
        results.append({"output": output, "images": leaf.grad, **gradients})
    assert results[0].keys() == results[1].keys()
    for key, expected in results[1].items():
        # BatchNorm in training makes the gradient of a bias before it 0 but for rounding.
        scale = max(expected.abs().max().item(), 1e-3)
        assert (results[0][key] - expected).abs().max().item() <= RTOL * scale, key


def test_gradients_reach_every_parameter(name):
    # In evaluation, since BatchNorm in training cancels the biases of the convolution before it.
    model = randomise(make(name)).double().eval()
    output = model(images(name, dtype=torch.float64))
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    for key, parameter in model.named_parameters():
        if name.startswith("eamlp") and re.fullmatch(EAMLP_IDLE, key):
            assert parameter.grad is None or parameter.grad.abs().max() < 1e-12, key
            continue
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 1e-9, key


def test_channels_last_images_give_the_same_outputs(name):
    model = randomise(make(name)).double().eval()
    batch = images(name, dtype=torch.float64)
    expected = model(batch)
    actual = model(batch.contiguous(memory_format=torch.channels_last))
    assert relative_error(actual, expected) < RTOL


def test_channels_last_images_keep_all_activations_channels_last(name):
    model = make(name).eval()
    strides = {}

    def note(key):
        def hook(module, inputs, output):
            last = isinstance(module, nn.LayerNorm | BatchNorm | ImageNorm)
            layout = torch.contiguous_format if last else torch.channels_last
            strides[key] = output.is_contiguous(memory_format=layout)

        return hook

    for key, module in model.named_modules():
        # Outputs of 1x1 positions are contiguous in every layout.
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.LayerNorm | ImageNorm):
            module.register_forward_hook(note(key))
    with torch.no_grad():
        model(images(name).contiguous(memory_format=torch.channels_last))
    assert strides
    assert all(strides.values()), [key for key, kept in strides.items() if not kept]


def test_drop_path_rises_linearly_over_the_blocks(name):
    model = make(name, drop_path_rate=0.3)
    paths = {n: module for n, module in model.named_modules() if isinstance(module, DropPath)}
    # Where a block has several branches, each has its own, of the same rate.
    first = {n: path for n, path in paths.items() if n.endswith(("drop_path", "drop_path1"))}
    for n, path in paths.items():
        assert n in first or path.drop_prob == first[f"{n[:-1]}1"].drop_prob
    rates = [path.drop_prob for path in first.values()]
    arguments = settings(name) or {"depths": (2, 2)}
    depths = [arguments["depth"]] if "depth" in arguments else arguments["depths"]
    if not name.startswith("convmlp"):  # whose authors start anew in every stage
        depths = [sum(depths)]
    expected = [0.3 * block / max(depth - 1, 1) for depth in depths for block in range(depth)]
    if name.startswith("raftmlp"):  # whose authors have one rate for all blocks
        expected = [0.3] * sum(depths)
    assert rates == pytest.approx(expected)


def test_without_drop_path_nothing_is_random_in_training(name):
    model = make(name, drop_path_rate=0.0).train()
    assert not any(isinstance(module, DropPath) for module in model.modules())
    first, second = model(images(name)), model(images(name))
    assert torch.equal(first, second)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    layer = DropPath(0.3).train()
    output = layer(torch.ones(20_000, 2, 3))
    per_sample = output.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    assert set(per_sample[:, 0].tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    # 20,000 draws: the standard error of the share is 0.0032.
    assert (per_sample[:, 0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.015)
    assert torch.equal(layer.eval()(torch.ones(2, 3)), torch.ones(2, 3))


def test_drop_path_rates_of_a_single_block_are_zero():
    assert drop_path_rates(0.4, 1) == [0.0]


def test_state_dict_carries_the_whole_function(name):
    first, second = randomise(make(name)).eval(), make(name).eval()
    result = second.load_state_dict(first.state_dict())
    assert not result.missing_keys
    assert not result.unexpected_keys
    with torch.no_grad():
        assert torch.equal(first(images(name)), second(images(name)))


@pytest.mark.parametrize("size", [(80, 96), (112, 112)])
def test_other_image_sizes_work(name, size):
    model = make(name, img_size=size).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, *size)).shape == (1, 7)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, *size)


def test_weights_of_another_image_size_are_resampled_as_they_are_loaded(name, caplog):
    caplog.set_level(logging.INFO, "models.layers.resampling")
    small, large = randomise(make(name)).eval(), make(name, img_size=112).eval()
    large.load_state_dict(small.state_dict())
    pixels = large.state_dict()
    with torch.no_grad():
        flat = torch.full((1, 3, 1, 1), 0.5)
        before = small(flat.expand_as(images(name, 1)))
        after = large(flat.expand(1, 3, 112, 112))
    changed = [k for k, value in small.state_dict().items() if value.shape != pixels[k].shape]
    assert len(caplog.records) > 0 if changed else not caplog.records
    if not changed:
        return
    # An image of one colour stays one; zero padding, which reaches further into a smaller grid,
    # and the ends of the interpolated weights leave a difference.
    assert torch.nn.functional.cosine_similarity(before, after).item() > 0.7


TORCHS_OWN = (
    models.splitmixer.SplitMixer,
    models.as_mlp.ASMLP,
    models.smlpnet.SMLPNet,
    models.raftmlp.RaftMLP,
)
"""Families that their authors leave as torch initialises them."""


def test_initial_weights_are_the_authors(name):
    torch.manual_seed(0)
    model = make(name)
    by_torch = isinstance(model, TORCHS_OWN)
    for key, module in model.named_modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d | ImageNorm):
            assert torch.equal(module.weight, torch.ones_like(module.weight)), key
            assert torch.equal(module.bias, torch.zeros_like(module.bias)), key
        elif isinstance(module, CrossEmbed):  # one layer, the sum of its convolutions
            bound = sum(conv.weight[0].numel() for conv in module.convs) ** -0.5
            for parameter in module.parameters():
                assert 0.8 * bound < parameter.abs().max().item() <= bound * (1 + 1e-6), key
        elif ".embed.convs." in key:
            continue
        elif isinstance(module, nn.Conv2d) and isinstance(model, models.hire_mlp.HireMLP):
            slack = 5 * 0.02 / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(0.02, abs=slack), key
            assert not module.bias.any(), key
        elif isinstance(module, nn.Linear) and (
            not by_torch or (key == "head" and isinstance(model, models.as_mlp.ASMLP))
        ):
            # The standard error of a standard deviation of n draws is std / sqrt(2 n).
            slack = 5 * 0.02 / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(0.02, abs=slack), key
            assert module.bias is None or not module.bias.any(), key
        elif isinstance(module, nn.Conv2d) and isinstance(model, models.convmlp.ConvMLP):
            # Kaiming's normal of a ReLU; groups do not count.
            std = (2 / (module.out_channels * module.weight[0, 0].numel())) ** 0.5
            slack = 5 * std / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(std, abs=slack), key
        elif isinstance(module, nn.Linear | nn.Conv2d):  # torch's own: uniform in +-1/sqrt(fan_in)
            bound = module.weight[0].numel() ** -0.5
            assert module.weight.abs().max().item() <= bound * (1 + 1e-6), key
            few = module.weight.numel() < 10  # the greatest of four draws need not be great
            assert few or module.weight.abs().max().item() > 0.8 * bound, key
