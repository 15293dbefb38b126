"""The fused kernels and their plain forms, against float64 and against models without them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F

from models.kernels import switch
from models.kernels.axis_mixing import mix_axes
from models.kernels.depthwise import depthwise_conv2d
from tests.support.triton_interpreter import ROOT, interpret

PROGRAM = Path(__file__).with_name("interpreted.py")


def test_kernels_equal_float64_and_models_without_them():
    interpret(PROGRAM, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_kernels_equal_float64_at_random_shapes(seed):
    interpret(PROGRAM, seed)


AXES = (torch.randn(2, 3, 4, 6), torch.randn(2, 4, 2, 3, 3), torch.randn(2, 3, 2, 4, 4))
IMAGE, WEIGHT, BIAS = torch.randn(2, 5, 4, 6), torch.randn(5, 1, 3, 3), torch.randn(5)


def doubles(tensors):
    return [t.double().requires_grad_() for t in tensors]


def test_the_derivative_of_mixing_is_that_of_its_definition():
    assert torch.autograd.gradcheck(lambda *t: torch.stack(mix_axes(*t)), doubles(AXES))


@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
def test_the_derivative_of_the_convolution_is_that_of_its_definition(activation):
    inputs = doubles((IMAGE, WEIGHT, BIAS))
    assert torch.autograd.gradcheck(lambda *t: depthwise_conv2d(*t, activation), inputs)


def test_the_plain_convolution_is_torchs():
    expected = F.gelu(F.conv2d(IMAGE, WEIGHT, padding="same", groups=5))
    found = depthwise_conv2d(IMAGE, WEIGHT, None, "gelu")
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


# opcheck's own: it looks for gradients everywhere.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        (torch.ops.millstream.mix_axes, AXES),
        (torch.ops.millstream.depthwise, (IMAGE, WEIGHT[..., 0].permute(1, 2, 0), BIAS)),
    ],
    ids=["mix_axes", "depthwise"],
)
def test_operators_keep_the_rules_of_torch(operator, inputs):
    if operator is torch.ops.millstream.depthwise:
        image, taps, bias = inputs
        inputs = (image.permute(0, 2, 3, 1).contiguous(), taps.contiguous(), bias, "gelu", True)
    grads = [t.clone().requires_grad_() if isinstance(t, torch.Tensor) else t for t in inputs]
    torch.library.opcheck(operator.default, tuple(grads))


@pytest.mark.parametrize("segments", [1, 2])
def test_gradients_lie_in_memory_as_compilers_are_told(segments):
    """With one segment, products leave the tokens' gradient in another order."""
    logits_h, logits_w = (logits[:, :, :segments].contiguous() for logits in AXES[1:])
    inputs = (AXES[0], logits_h, logits_w, torch.randn(2, *AXES[0].shape))
    torch.library.opcheck(torch.ops.millstream.mix_axes_backward.default, inputs)
    assert all(g.is_contiguous() for g in torch.ops.millstream.mix_axes_backward(*inputs))


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel_size: must be odd"):
        depthwise_conv2d(IMAGE, torch.randn(5, 1, 2, 3), BIAS)


@pytest.mark.parametrize("name", ["dynamixer_nano", "splitmixer_i_256_8"])
def test_models_compile_in_one_graph_and_export_with_the_operators(name, monkeypatch):
    small = {"dim": 12, "depth": 1} if name.startswith("split") else {"depths": (1, 1)}
    model = timm.create_model(name, **small).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)
    monkeypatch.setattr(switch, "ENABLED", True)
    explained = torch._dynamo.explain(model)(images)
    assert explained.graph_break_count == 0
    exported = torch.export.export(model, (images,))
    operators = {str(node.target) for node in exported.graph.nodes}
    assert any(operator.startswith("millstream.") for operator in operators)
    torch.testing.assert_close(exported.module()(images), expected)


@pytest.mark.parametrize(("value", "enabled"), [("0", "False"), ("1", "True"), ("", None)])
def test_the_variable_decides(value, enabled):
    run = subprocess.run(
        [sys.executable, "-c", "from models.kernels import switch; print(switch.ENABLED)"],
        env={**os.environ, "MILLSTREAM_KERNELS": value, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if enabled is None:
        assert "MILLSTREAM_KERNELS=: must be 0 (plain PyTorch) or 1" in run.stderr
    else:
        assert run.stdout.strip() == enabled
