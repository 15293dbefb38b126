"""DynaMixer's ablations: each, and each with each other, is the paper's equations.

The oracle, `benchmarks/plain/dynamixer.py`, imports nothing from `models` and has the same keys.
"""

import itertools

import pytest
import torch

from benchmarks.plain.dynamixer import PlainDynaMixer
from models.dynamixer import DynaMix, DynaMixer
from tests.support.small_models import randomise

# Both sides are float64 and differ in the order of additions only; measured: up to 4e-14.
RTOL = 1e-12

# The mixer multiplies its branches' matrices, once per image, where there are many tokens: here
# 16x12 and 8x6 tokens of 8 and 12 channels. With 6x4 and 3x2 of 24 and 36 it does not.
FORMS = {
    "folded": {"dims": (8, 12), "patch_size": 2, "img_size": (32, 24)},
    "unfolded": {"dims": (24, 36), "patch_size": 8, "img_size": (48, 32)},
}
GENERATORS = ("dynamic", "dense", "random")
BASE = {"depths": (1, 1), "transitions": (True,), "segments": (4, 6)}


def num_branches(settings):
    return sum(settings.get(key, True) for key in ("column", "row", "channel"))


def switches():
    """Every combination of the ablations that are on or off, with every generator."""
    keys = ("generator", "column", "row", "channel", "reweight", "shared")
    for values in itertools.product(GENERATORS, *[(True, False)] * 5):
        settings = dict(zip(keys, values, strict=True))
        num_directions = settings["column"] + settings["row"]
        is_possible = num_branches(settings) > 0 and (num_directions == 2 or not settings["shared"])
        is_empty = num_directions == 0 and settings["generator"] != "dynamic"  # nothing to generate
        if is_possible and not is_empty:
            yield settings


def described(settings):
    off = [f"no {key}" for key in ("column", "row", "channel", "reweight") if not settings[key]]
    return ", ".join([settings["generator"], *["shared"] * settings["shared"], *off])


SIZES = [
    {"segments": segments, **others}
    for segments in (1, (2, 3), (8, 12), 4)
    for others in (
        {"reduced_dim": 1},
        {"reduced_dim": 3},
        {"reduced_dim": 8, "shared": True},
        {"generator": "dense"},
        {"generator": "random"},
    )
]


def both(form, settings):
    """Ours and the oracle, with the same weights of ordinary size."""
    arguments = {**BASE, **FORMS[form], **settings}
    if settings.get("shared"):  # needs a square grid
        arguments["img_size"] = 32
    ours, plain = (
        make(**arguments, num_classes=5).double() for make in (DynaMixer, PlainDynaMixer)
    )
    ours.load_state_dict(randomise(plain).state_dict())
    return ours, plain


def outputs_and_gradients(model, size):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64).requires_grad_()
    output = model(images)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    return {"output": output.detach(), "images": images.grad, **gradients}


def assert_same_function(form, settings):
    ours, plain = both(form, settings)
    is_folded = {module.is_folded for module in ours.modules() if isinstance(module, DynaMix)}
    assert is_folded == {form == "folded" and settings.get("reweight", True)}
    actual, expected = (outputs_and_gradients(model, ours.img_size) for model in (ours, plain))
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        scale = value.abs().max().item()
        is_constant = "reweight" in key and num_branches(settings) == 1  # the weight is 1
        assert (scale == 0) == is_constant, key
        assert (actual[key] - value).abs().max().item() <= RTOL * scale, key


COMBINATIONS = {
    f"{described(settings)}, {form}": (form, settings)
    for settings in switches()
    for form in FORMS
    if form == "unfolded" or settings["reweight"]  # branches without weights are never folded
}


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_every_combination_of_ablations_is_the_papers(combination):
    assert_same_function(*COMBINATIONS[combination])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("settings", SIZES, ids=str)
def test_every_number_of_segments_and_reduced_width_is_the_papers(settings, form):
    assert_same_function(form, settings)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize(
    ("settings", "reached"),
    [
        # "Column mixing" is read as mixing within a column, over the rows (MODELS.md 2.6).
        ({"column": False}, "its row"),
        ({"row": False}, "its column"),
        ({"column": False, "row": False}, "itself"),
        ({"column": False, "channel": False, "reweight": True}, "its row"),
        ({"row": False, "channel": False, "reweight": True}, "its column"),
        ({}, "both"),
        ({"shared": True}, "both"),
    ],
)
def test_a_token_reaches_only_along_the_directions_that_are_left(settings, reached, generator):
    # Reweighting several branches carries the change everywhere, by the mean over all tokens; the
    # weight of a single one is 1.
    arguments = {"segments": 2, "generator": generator, "reweight": False, **settings}
    model = DynaMixer(
        depths=(1,), dims=(8,), transitions=(), patch_size=2, img_size=12, **arguments
    )
    model = randomise(model).double()
    images = torch.zeros(1, 3, 12, 12, dtype=torch.float64)
    changed = images.clone()
    changed[:, :, 2 * 4 : 2 * 5, 2 * 1 : 2 * 2] = 1.0  # the token in row 4, column 1
    with torch.no_grad():
        difference = model.forward_features(changed) - model.forward_features(images)
    differs = difference[0].abs().amax(dim=-1) > 1e-9
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[4, 1] = True
    expected[4, :] |= reached in ("its row", "both")
    expected[:, 1] |= reached in ("its column", "both")
    assert torch.equal(differs, expected)
