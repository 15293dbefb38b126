"""The kernels compile for a GPU that is not here, without spilling, and products use its units."""

import pytest
import torch

from benchmarks.gpu.offline.kernel_resources import compile_kernel
from models.kernels import axis_mixing_triton, depthwise_triton

MIXING = axis_mixing_triton.constants(32, 32, 192, 8, torch.bfloat16)
FILTER = depthwise_triton.constants(32, 768, 9, 9)


@pytest.mark.parametrize("part", ["forward", "backward"])
def test_mixing_uses_matrix_units_and_spills_nothing(part):
    numbers = compile_kernel(getattr(axis_mixing_triton, f"_{part}_kernel"), dict(MIXING))
    assert numbers["spill_instructions"] == numbers["stack_bytes"] == 0
    assert numbers["matrix_instructions"] > 0
    assert set(numbers["loads"]) == {"LDG.E.128"}


def test_convolutions_spill_nothing():
    convolution = {**FILTER, "ACTIVATION": 2, "KEEP": True}
    for kernel, constants in (
        (depthwise_triton._forward_kernel, convolution),
        (depthwise_triton._weight_kernel, {**FILTER, "PARTS": 64}),
    ):
        numbers = compile_kernel(kernel, constants)
        assert numbers["spill_instructions"] == numbers["stack_bytes"] == 0
        assert numbers["registers"] < 128
