"""DynaMixer's ablations are what the paper says, by the plain transcription, in float64."""

import pytest
import timm
import torch

from benchmarks.plain_dynamixer import plain
from tests.small_models import randomise

RTOL = 1e-9  # both sides are float64 and differ in the order of additions only
SMALL = {"num_classes": 7}
BRANCHES = ("column", "row", "channel")

ABLATIONS = [
    *({"generator": g, "segments": s} for g in ("dynamic", "random", "dense") for s in (1, 4)),
    *({"generator": g, "reweight": False} for g in ("dynamic", "random", "dense")),
    *({name: False} for name in BRANCHES),
    *({name: False, "reweight": False, "generator": "dense"} for name in BRANCHES),
    {"column": False, "row": False},
    {"column": False, "channel": False, "reweight": False},
    {"row": False, "channel": False, "generator": "random"},
    {"shared": True},
    {"shared": True, "generator": "dense", "channel": False},
    {"shared": True, "generator": "random", "reweight": False},
    {"reduced_dim": 1},
    {"reduced_dim": 5, "segments": (2, 8)},
]


def _name(ablation):
    return "-".join(f"{key}={value}" for key, value in ablation.items())


# 8x8 tokens are more than two branches of 16 channels: they are folded; of 64 channels, not.
@pytest.mark.parametrize("dims", [(16, 32), (64, 64)], ids=["folded", "branch by branch"])
@pytest.mark.parametrize("ablation", ABLATIONS, ids=_name)
def test_outputs_and_gradients_are_the_plain_transcriptions(dims, ablation):
    settings = {"dims": dims, "depths": (1, 1), **SMALL, **ablation}
    reference = randomise(plain("dynamixer_nano", **settings)).double()
    model = timm.create_model("dynamixer_nano", **settings).double()
    model.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    results = []
    for each in (model, reference):
        leaf = images.clone().requires_grad_()
        output = each(leaf)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        gradients = {key: p.grad for key, p in each.named_parameters()}
        results.append({"output": output, "images": leaf.grad, **gradients})
    assert results[0].keys() == results[1].keys()
    for key, expected in results[1].items():
        scale = max(expected.abs().max().item(), 1e-3)
        assert (results[0][key] - expected).abs().max().item() <= RTOL * scale, key


@pytest.mark.parametrize(("alone", "reached"), [("column", "column"), ("row", "row")])
def test_a_branch_mixes_along_its_own_direction(alone, reached):
    without = dict.fromkeys({*BRANCHES} - {alone}, False)
    model = timm.create_model("dynamixer_nano", **without, **SMALL)
    mixer = randomise(model).double().network[0][0].attn
    # What all tokens share, the weights of the only branch, is 1.
    tokens = torch.randn(1, 8, 8, 64, dtype=torch.float64)
    changed = tokens.clone()
    changed[0, 3, 5] += 1
    touched = (mixer(changed) - mixer(tokens)).abs().amax(-1)[0] > 1e-12
    expected = torch.zeros(8, 8, dtype=torch.bool)
    if reached == "column":
        expected[:, 5] = True
    else:
        expected[3] = True
    assert torch.equal(touched, expected)
