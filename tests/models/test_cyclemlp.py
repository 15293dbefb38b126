"""CycleMLP's cycle layer is the deformable convolution that the authors run."""

import pytest
import torch
from torchvision.ops import deform_conv2d

from models.cyclemlp import COLUMNS, ROWS, CycleLinear
from tests.support.authors_weights import KEYS, state_dict
from tests.support.small_models import randomise


def authors_offset(dim, kernel):
    """What the authors' buffer holds: (down, right) for each input channel of a 1x1 kernel."""
    offset = torch.zeros(1, 2 * dim, 1, 1, dtype=torch.float64)
    start = (kernel[0] * kernel[1]) // 2
    for channel in range(dim):
        if kernel[0] == 1:
            offset[0, 2 * channel + 1] = (channel + start) % kernel[1] - kernel[1] // 2
        else:
            offset[0, 2 * channel] = (channel + start) % kernel[0] - kernel[0] // 2
    return offset


@pytest.mark.parametrize("dim", [1, 2, 7, 9])
@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (5, 3)])
@pytest.mark.parametrize(("axis", "kernel"), [(COLUMNS, (1, 3)), (ROWS, (3, 1))])
def test_cycle_layers_are_deformable_convolutions(axis, kernel, grid, dim):
    layer = randomise(CycleLinear(dim, axis)).double()
    x = torch.randn(2, *grid, dim, dtype=torch.float64)
    expected = deform_conv2d(
        x.permute(0, 3, 1, 2).contiguous(),
        authors_offset(dim, kernel).expand(2, -1, *grid).contiguous(),
        layer.weight[:, :, None, None],
        layer.bias,
    )
    torch.testing.assert_close(layer(x), expected.permute(0, 2, 3, 1), rtol=1e-12, atol=1e-13)


def test_offsets_in_checkpoints_are_those_of_the_layers():
    shapes = {shape[1] for key, shape in KEYS["CycleMLP_B1"].items() if key.endswith(".offset")}
    assert shapes == {2 * dim for dim in (64, 128, 320, 512)}
    assert any(key.endswith(".offset") for key in state_dict("CycleMLP_B1"))
