"""What a processor does at most, timed: no data sheet says what a share of one gives.

A square product of large matrices is as fast as anything gets, and so is a copy between two blocks
that no cache near the core holds. Both take the clock and the threads of the steps beside them. A
step's tensors may fit into a cache, so a share of the roofline may pass 100 % on a processor.
"""

import time
from collections.abc import Callable

import torch

from benchmarks.model_cost import Peak

SIDE = 1536
"""Rows and columns of the matrices."""
COPIED_BYTES = 256 << 20
REPEATS = 5


def measured_peak(dtype: torch.dtype) -> Peak:
    """The peak of this machine's processor for products of `dtype`, of the best of some tries.

    Arithmetic outside of matrix products, such as depthwise convolutions, is held to the peak of
    float32: there are no units of its own for it, and none of the matrix units help it.
    """
    source, target = (torch.ones(COPIED_BYTES, dtype=torch.uint8) for _ in range(2))
    copied = 2 * COPIED_BYTES  # read and written
    fp32 = _product_flops_per_s(torch.float32)
    return Peak(
        matmul_flops_per_s=fp32 if dtype == torch.float32 else _product_flops_per_s(dtype),
        fma_flops_per_s=fp32,
        bytes_per_s=copied / _least_s(lambda: target.copy_(source)),
        source=f"measured: a product of {SIDE} x {SIDE} matrices, a copy of {COPIED_BYTES >> 20}"
        " MiB",
    )


def _product_flops_per_s(dtype: torch.dtype) -> float:
    a, b = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * SIDE**3 / _least_s(lambda: torch.mm(a, b, out=out))


def _least_s(action: Callable[[], object]) -> float:
    """CPU seconds of the fastest of `REPEATS`, after one that warms up."""
    taken = []
    for _ in range(1 + REPEATS):
        started = time.process_time()
        action()
        taken.append(time.process_time() - started)
    return min(taken[1:])
