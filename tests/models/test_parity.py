"""The authors' checkpoints, through our conversion, give the authors' outputs.

Every parameter and statistic has a random value of ordinary size and the arithmetic is float64,
because with the usual initialisation in float32 even a softmax over the wrong axis goes unseen.
"""

import importlib

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import models
from benchmarks.model_timing import PLAIN_MODULES
from benchmarks.plain.splitmixer import PlainSplitMixer
from models import splitmixer
from models.build import input_config
from models.weights.checkpoint_files import Stored
from models.weights.checkpoints import fit
from tests.support import authors_weights
from tests.support.authors_weights import KEYS, LOGITS, our_name
from tools import convert_checkpoint

# Both sides are float64; what is left is the order of additions.
RTOL = 1e-9

TIMMS = {
    "convmixer_768_32": {"dim": 768, "depth": 32, "kernel_size": 7, "activation": F.relu},
    "convmixer_1536_20": {"dim": 1536, "depth": 20, "kernel_size": 9},
}
"""Models of timm's that the authors published and whose outputs are not here: all have patch 7."""

LARGE = (
    *("lvvit_m", "lvvit_l", "gfnet_b", "gfnet_h_b", "convmlp_l", "eamlp_19", "eamlp_24"),
    *("CycleMLP_B2", "CycleMLP_B3", "CycleMLP_B4", "CycleMLP_B5"),
    *("hire_mlp_small@res0.1", "hire_mlp_base@res0.1", "hire_mlp_large@res0.1"),
    *("asmlp_small", "asmlp_base", "smlpnet_small", "smlpnet_base"),
    *("raftmlp_m", "raftmlp_l", "raftmlp_36"),
    *("raftmlp_12_r1", "raftmlp_12_r2", "raftmlp_12_r2_cross", "raftmlp_12_r4"),
)
"""More blocks, and wider ones, than the variants of their families whose parity is always tested:
of RaftMLP one with each way of embedding."""

ANY_SIZE = 42
"""Pixels that show all of a model that takes any size, at a small part of the cost of 224."""


@pytest.fixture(autouse=True)
def _uninitialised(monkeypatch):
    # All weights are loaded; drawing a hundred million normal numbers first would cost seconds.
    for draw in ("trunc_normal_", "kaiming_uniform_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, draw, lambda tensor, *_, **__: tensor)


def converted(published, folder):
    """The model in float64 with the authors' weights, by way of both kinds of file."""
    source, output = folder / "authors.pth.tar", folder / "ours.safetensors"
    torch.save(authors_weights.checkpoint(published), source)
    name, (_, arguments) = our_name(published), models.resolve(published)
    asked = published if arguments else name
    assert convert_checkpoint.main([str(source), "--model", asked, "--out", str(output)]) == 0
    weights = load_file(output)
    source.unlink()  # 800 MB for the largest
    output.unlink()
    model = timm.create_model(name, num_classes=len(weights["head.bias"]), **arguments)
    model.double().eval().load_state_dict(weights)
    return model


def transcription(published, model):
    """The plain form with the weights of `model`."""
    weights = model.state_dict()
    if published in TIMMS:
        arguments = {"patch_size": 7, "split": "none", "split_spatial": False}
        plain = PlainSplitMixer(**arguments, **TIMMS[published])
        weights = splitmixer.checkpoint_filter_fn(weights, plain)
    else:
        name, (_, arguments) = our_name(published), models.resolve(published)
        module = importlib.import_module(PLAIN_MODULES[timm.model_entrypoint(name).__module__])
        plain = module.plain(name, num_classes=model.num_classes, **arguments)
    plain.double().eval().load_state_dict(weights)
    return plain


def largest_are_slow(names):
    """The names as parameters."""
    return [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in names]


def relative_error(actual, expected):
    return (np.abs(actual - expected).max() / np.abs(expected).max()).item()


@pytest.mark.parametrize("published", largest_are_slow(LOGITS))
def test_authors_weights_give_the_authors_outputs(published, tmp_path):
    model = converted(published, tmp_path)
    images = authors_weights.images(input_config(model).size[0])
    with torch.no_grad():
        assert relative_error(model(images).numpy(), LOGITS[published]) < RTOL
        if published.startswith("convmixer_1"):  # timm's own model; the next test has its like
            return
        # The oracle of all other tests is held to the authors' outputs too.
        first = transcription(published, model)(images[:1]).numpy()
        assert relative_error(first, LOGITS[published][:1]) < RTOL


@pytest.mark.parametrize("published", [n for n in KEYS if not n.startswith("convmixer_")])
def test_every_published_name_and_shape_becomes_one_of_ours(published, tmp_path):
    with torch.device("meta"):
        weights = {key: torch.empty(shape) for key, shape in KEYS[published].items()}
        model = timm.create_model(our_name(published), **models.resolve(published)[1])
        stored = Stored(path=tmp_path / "a.pth", entry="", weights=weights)
        fitted = fit(stored, model, name=published)
    expected = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in fitted.items()} == expected


@pytest.mark.parametrize("published", largest_are_slow(n for n in KEYS if n not in LOGITS))
def test_authors_weights_give_the_outputs_of_the_papers_equations(published, tmp_path):
    model = converted(published, tmp_path)
    plain = transcription(published, model)
    is_sized = timm.get_pretrained_cfg(our_name(published)).fixed_input_size
    size = input_config(model).size[0] if is_sized else ANY_SIZE
    batch = authors_weights.images(size, batch=1)
    with torch.no_grad():
        assert relative_error(model(batch).numpy(), plain(batch).numpy()) < RTOL
