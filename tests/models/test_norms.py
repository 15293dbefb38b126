"""Norms of (B, H, W, C) are torch's of (B, C, H, W)."""

import pytest
import torch
from torch import nn

from models.layers.norms import BatchNorm, ImageNorm
from tests.support.small_models import randomise


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("ours", "torchs"), [(BatchNorm(6), nn.BatchNorm2d(6)), (ImageNorm(6), nn.GroupNorm(1, 6))]
)
def test_values_gradients_and_statistics_are_torchs(ours, torchs, training):
    torchs = randomise(torchs).double().train(training)
    ours = ours.double().train(training)
    ours.load_state_dict(torchs.state_dict())
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    results = []
    for norm, dims in ((ours, (0, 1, 2, 3)), (torchs, (0, 3, 1, 2))):
        leaf = x.clone().requires_grad_()
        output = norm(leaf.permute(dims))
        output = output.permute(0, 2, 3, 1) if norm is torchs else output
        (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
        gradients = [parameter.grad for parameter in norm.parameters()]
        results.append([output, leaf.grad, *gradients, *norm.buffers()])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
