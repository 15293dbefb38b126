"""What a model costs, against sums done by hand."""

import pytest
from torch import nn

from models.build import build_model
from models.cost import model_cost
from models.kernels import switch


def products_by_hand(model: nn.Module, rows: dict[str, int]) -> int:
    """Multiply-adds of linear layers and convolutions, each applied to `rows` positions."""
    return sum(
        model.get_submodule(name).weight[0].numel() * model.get_submodule(name).weight.shape[0] * n
        for name, n in rows.items()
    )


def test_a_convmixer_costs_what_its_layers_do():
    model = build_model("convmixer_256_8", num_classes=10)
    positions = 16 * 16  # 32 px in patches of 2
    layers = {
        name: positions for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
    }
    cost = model_cost(model, "convmixer_256_8")
    assert cost.macs == products_by_hand(model, {**layers, "head": 1})
    assert cost.tokens == positions
    assert cost.area == 1.0


@pytest.mark.parametrize("name", ["dynamixer_nano", "convmixer_256_8"])
def test_what_fused_kernels_compute_counts(name, monkeypatch):
    model = build_model(name, num_classes=10)
    plain = model_cost(model, name)
    monkeypatch.setattr(switch, "ENABLED", True)
    assert model_cost(model, name) == plain
    assert switch.ENABLED


SMALLEST = (
    *("dynamixer_nano", "vip_s14", "amixer_deit_s", "amixer_t", "splitmixer_i_256_8"),
    *("lvvit_t", "gfnet_ti", "convmlp_s", "eamlp_7"),
)


@pytest.mark.parametrize("name", SMALLEST)
def test_the_cost_of_each_family_is_known(name):
    cost = model_cost(build_model(name, num_classes=10), name)
    assert cost.macs is not None
    assert cost.tokens is not None
    assert cost.area == 1.0
