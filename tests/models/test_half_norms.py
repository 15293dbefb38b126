"""`models.half_norms`: under autocast LayerNorm keeps its input's type; training goes as ever."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import models  # noqa: F401  # registers ours
from benchmarks.gpu.offline.precision_bytes import count
from models.half_norms import HalfLayerNorm, norms_in_half

HALF = {"device_type": "cpu", "dtype": torch.bfloat16}


def make_norm():
    norm = nn.LayerNorm(24)
    nn.init.normal_(norm.weight, 1, 0.2)
    nn.init.normal_(norm.bias)
    norms_in_half(norm)
    assert type(norm) is HalfLayerNorm
    return norm


def test_the_output_has_the_inputs_type_and_float64s_values_to_two_roundings():
    norm, x = make_norm(), torch.randn(5, 7, 24).bfloat16().requires_grad_()
    with torch.autocast(**HALF):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    weight, bias = norm.weight.double(), norm.bias.double()
    expected = F.layer_norm(x.double(), (24,), weight, bias)
    assert (y - expected).norm() / expected.norm() < 2**-7  # of the weights, and of the result
    y.sum().backward()
    assert norm.weight.grad.dtype == norm.bias.grad.dtype == torch.float32
    assert x.grad.dtype == torch.bfloat16


def test_without_autocast_and_in_float32_nothing_changes():
    norm, x = make_norm(), torch.randn(5, 24)
    plain = nn.LayerNorm(24)
    plain.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), plain(x))
    with torch.autocast(**HALF):
        assert torch.equal(norm(x), plain(x))


def test_a_model_with_it_is_one_graph_and_has_the_same_weights():
    model = timm.create_model("dynamixer_nano", depths=(1, 1))
    names = list(model.state_dict())
    norms_in_half(model)
    assert list(model.state_dict()) == names
    images = torch.randn(2, 3, 32, 32)
    with torch.autocast(**HALF):
        expected = model(images)
        compiled = torch.compile(model, backend="eager", fullgraph=True)(images)
    torch.testing.assert_close(compiled, expected)


def test_by_cudas_rules_the_casts_around_it_are_gone():
    """Little is left of what weights in bfloat16 would save."""
    bytes_of = {
        precision: count("dynamixer_nano", 64, precision)
        for precision in ("autocast", "ours", "bfloat16")
    }
    assert bytes_of["ours"] < 0.8 * bytes_of["autocast"]
    assert bytes_of["ours"] < 1.1 * bytes_of["bfloat16"]


@pytest.mark.parametrize("name", ["dynamixer_nano", "convmixer_256_8"])
def test_bfloat16_learns_as_float32_and_statistics_stay_float32(name):
    small = {"depths": (1, 1)} if name == "dynamixer_nano" else {"dim": 32, "depth": 2}
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 32, 32, generator=generator)
    labels = torch.arange(16) % 4
    losses, ends = {}, {}
    for half in (False, True):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=4, **small).train()
        if half:
            norms_in_half(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        losses[half] = []
        for _ in range(10):
            with torch.autocast(**HALF, enabled=half):
                loss = F.cross_entropy(model(images).float(), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[half].append(loss.item())
        ends[half] = dict(model.named_buffers()) | dict(model.named_parameters())
    assert losses[True] == pytest.approx(losses[False], abs=0.05)
    assert losses[True][-1] < 0.95 * losses[True][0]
    for key, value in ends[True].items():
        assert value.dtype == ends[False][key].dtype, key
        if key.endswith("running_var"):
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, ends[False][key], rtol=0.1, atol=0.02)
