"""How far half precision is from float64, for every registered model."""

import pytest
import torch

from models.build import _blocks
from models.layers.basic import softmax
from tests.support.small_models import NAMES, images, make, randomise

# A number of bfloat16 has 8 bits, one of float16 11: relative steps of 2^-8 and 2^-11. A network
# of tens of roundings in a row, with random weights of ordinary size, adds up to a few steps.
DISTANCE = {torch.bfloat16: 8 * 2**-8, torch.float16: 8 * 2**-11}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize("dtype", DISTANCE)
@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_half_precision_is_near_float64(name, dtype, how):
    # oneDNN's bfloat16 convolution of 8 x 8 patches is wrong for fewer channels, given AMX.
    wider = {"stem_width": 32} if name.startswith("lvvit") else {}
    model = randomise(make(name, **wider)).double().eval()
    batch = images(name, dtype=torch.float64)
    with torch.no_grad():
        exact = model(batch)
        if how == "weights":
            near = model.to(dtype)(batch.to(dtype))
        else:
            with torch.autocast("cpu", dtype):
                near = model.float()(batch.float())
    assert near.dtype == dtype
    distance = (near.double() - exact).norm() / exact.norm()
    assert distance < DISTANCE[dtype]


@pytest.mark.parametrize("dtype", DISTANCE)
def test_softmax_is_of_float32(dtype):
    logits = (8 * torch.randn(4, 500)).to(dtype)
    weights = softmax(logits, dim=-1)
    assert weights.dtype == dtype
    assert torch.equal(weights, torch.softmax(logits.float(), -1).to(dtype))
    assert softmax(logits.double(), dim=-1).dtype == torch.float64


@pytest.mark.parametrize("dtype", DISTANCE)
def test_softmax_under_autocast_keeps_what_it_returns(dtype):
    """A float32 copy of all mixing matrices would double what training keeps of them."""
    logits = torch.randn(4, 50).to(dtype).requires_grad_()
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x)
    with torch.autocast("cpu", dtype), hooks:
        weights = softmax(logits, dim=-1)
    assert [x.dtype for x in kept] == [dtype]
    assert torch.equal(weights, torch.softmax(logits.float(), -1).to(dtype))
    direction = torch.randn(4, 50, dtype=dtype)
    (gradient,) = torch.autograd.grad(weights, logits, direction)
    exact = logits.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(exact.softmax(-1), exact, direction.double())
    assert (gradient - expected).norm() / expected.norm() < DISTANCE[dtype] / 8


@pytest.mark.parametrize("name", ["dynamixer_s", "vip_s7", "hire_mlp_tiny"])
def test_under_autocast_the_residual_stream_has_the_type_of_the_products(name):
    """As with the authors; a float32 bias of the stem would make all of it float32."""
    model = make(name).eval()
    types = set()
    for block in _blocks(model):
        block.register_forward_hook(lambda _module, _inputs, x: types.add(x.dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(images(name))
    assert types == {torch.bfloat16}
