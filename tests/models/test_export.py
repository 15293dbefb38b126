"""Compilers and exporters see each registered model as one graph."""

import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from models.build import compile_in_place
from tests.support.small_models import ONE_OF_EACH_FAMILY, STRUCTURES, images, make, randomise

COSTLY = ("hire_mlp_tiny", "s2_mlpv2_small_7", "cyclemlp_b1")
"""Their exporting to ONNX takes longest; what it is made of is that of other families."""

# ONNX runs in float32 with its own order of additions.
ONNX_RTOL = 1e-4


class CountingBackend:
    """Runs graphs as they are and keeps count of them."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, example_inputs):
        self.graphs += 1
        return graph.forward


@pytest.fixture
def backend():
    torch._dynamo.reset()
    yield CountingBackend()
    torch._dynamo.reset()


@pytest.mark.parametrize("name", STRUCTURES)
def test_one_graph_for_training_and_one_for_evaluation(name, backend):
    model = make(name, drop_path_rate=0.1)
    model.compile(fullgraph=True, backend=backend)
    batch = images(name).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        model.train()
        model(batch).sum().backward()
        model.eval()
        with torch.no_grad():
            model(batch)
    assert backend.graphs == 2


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at inputs
@pytest.mark.parametrize("name", STRUCTURES)
def test_blocks_of_one_kind_share_a_graph(name, backend):
    model = make(name, drop_path_rate=0.1)
    compile_in_place(model, blocks=True)
    blocks = [m for m in model.modules() if m._compiled_call_impl is not None]
    for block in blocks:
        block.compile(fullgraph=True, backend=backend)
    batch = images(name).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        model.train()
        model(batch).sum().backward()
        model.eval()
        with torch.no_grad():
            model(batch)
    kinds = {tuple((k, v.shape) for k, v in block.state_dict().items()) for block in blocks}
    # Besides its shapes, a block's place may matter: a shifted window, the channels that it splits.
    assert backend.graphs <= 2 * min(len(blocks), 2 * len(kinds))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize("blocks", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_compiled_models_compute_the_same(blocks):
    torch._dynamo.reset()
    eager = randomise(make("dynamixer_nano", depths=(1, 1))).train()
    compiled = make("dynamixer_nano", depths=(1, 1)).train()
    compiled.load_state_dict(eager.state_dict())
    compile_in_place(compiled, blocks=blocks)
    batch = images("dynamixer_nano").contiguous(memory_format=torch.channels_last)
    for model in (eager, compiled):
        model(batch).square().sum().backward()
    torch.testing.assert_close(compiled(batch), eager(batch), rtol=1e-4, atol=1e-5)
    for expected, actual in zip(eager.parameters(), compiled.parameters(), strict=True):
        scale = expected.grad.abs().max().item()
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-3, atol=1e-4 * scale)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", STRUCTURES)
def test_exported_program_computes_the_same(name):
    model = randomise(make(name)).eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(
        model, (images(name),), dynamic_shapes={"images": {0: batch}}, strict=False
    )
    others = images(name, batch=3, seed=9)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(others), model(others), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in COSTLY else ())
        for name in ONE_OF_EACH_FAMILY
    ],
)
def test_onnxruntime_computes_the_same(name, tmp_path):
    model = randomise(make(name)).eval()
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        # The exporter's own use of what torch and onnxscript deprecate.
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (images(name),), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    others = images(name, seed=9)
    (actual,) = session.run(None, {session.get_inputs()[0].name: others.numpy()})
    with torch.no_grad():
        expected = model(others).numpy()
    assert np.abs(actual - expected).max() < ONNX_RTOL * np.abs(expected).max()
