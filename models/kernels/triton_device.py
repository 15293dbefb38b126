"""Where the Triton kernels can run."""

import importlib.util
import os

import torch
from torch import Tensor

_HAS_TRITON = importlib.util.find_spec("triton") is not None
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def runs_triton(x: Tensor) -> bool:
    """Whether a kernel can take `x`: on a GPU, or anywhere in Triton's interpreter."""
    return _HAS_TRITON and (x.is_cuda or _is_interpreted()) and x.dtype in _DTYPES


def product_type(dtype: torch.dtype) -> object:
    """Triton's type of the factors of a matrix product; sums are float32 in any case."""
    import triton.language as tl

    if _is_interpreted() and dtype is torch.bfloat16:
        # The interpreter multiplies the bits of bfloat16. Products of two are exact in float32.
        return tl.float32
    return {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[
        dtype
    ]


def _is_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
