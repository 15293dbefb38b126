"""The Triton kernels of `depthwise`.

A program owns `TW` neighbouring outputs of one row for `CB` channels. It slides over the rows of
the filter: TW + kw - 1 inputs are loaded once per row and serve kw taps from registers. Sums are
float32. The gradient of the filter is added up in parts of whole rows and then over the parts, in
a fixed order: twice the same numbers give twice the same bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2}
_PARTS = 64
"""Sums over which the gradient of the filter is divided, at most: programs that fill a GPU."""
_MAX_ROWS = 65535
"""Rows of all images in a launch: the most programs that CUDA takes in a grid's third dimension."""


@triton.jit
def _forward_kernel(
    x_ptr, taps_ptr, bias_ptr, y_ptr, before_ptr, H, W,
    C: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, TW: tl.constexpr, CB: tl.constexpr,
    ACTIVATION: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * CB + tl.arange(0, CB)
    first = tl.program_id(1) * TW
    row = tl.program_id(2)  # of all images
    h = row % H
    is_channel = channel < C
    zero = channel * 0  # makes conditions blocks: the interpreter cannot mask by a scalar
    bias = tl.load(bias_ptr + channel, mask=is_channel, other=0.0).to(tl.float32)
    sums = (bias,) * TW
    for dy in range(KH):
        source = h + dy - KH // 2
        is_row = (zero + source >= 0) & (zero + source < H)
        row_ptr = x_ptr + (row + dy - KH // 2).to(tl.int64) * W * C + channel
        inputs = ()
        for i in tl.static_range(TW + KW - 1):
            w = zero + first + i - KW // 2
            inside = is_channel & is_row & (w >= 0) & (w < W)
            inputs = inputs + (
                tl.load(row_ptr + (first + i - KW // 2) * C, mask=inside, other=0.0).to(tl.float32),
            )
        for dx in tl.static_range(KW):
            tap = tl.load(taps_ptr + (dy * KW + dx) * C + channel, mask=is_channel, other=0.0)
            tap = tap.to(tl.float32)
            added = ()
            for j in tl.static_range(TW):
                added = added + (sums[j] + inputs[j + dx] * tap,)
            sums = added
    for j in tl.static_range(TW):
        inside = is_channel & (zero + first + j < W)
        at = (row.to(tl.int64) * W + first + j) * C + channel
        y = sums[j]
        if KEEP:
            tl.store(before_ptr + at, y.to(x_ptr.dtype.element_ty), mask=inside)
        if ACTIVATION == 1:
            y = tl.maximum(y, 0.0)
        if ACTIVATION == 2:
            y = 0.5 * y * (1.0 + tl.erf(y * 0.7071067811865476))
        tl.store(y_ptr + at, y.to(x_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _weight_kernel(
    x_ptr, grad_ptr, parts_ptr, rows, H, W,
    C: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, TW: tl.constexpr, CB: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * CB + tl.arange(0, CB)
    dy = tl.program_id(1)
    part = tl.program_id(2)
    is_channel = channel < C
    zero = channel * 0  # makes conditions blocks: the interpreter cannot mask by a scalar
    wide = zero.to(tl.int64)
    sums = (tl.zeros((CB,), tl.float32),) * KW
    for row in range(part, rows, PARTS):
        source = row % H + dy - KH // 2
        is_row = (zero + source >= 0) & (zero + source < H)
        x_row = x_ptr + (wide + row + dy - KH // 2) * W * C + channel
        grad_row = grad_ptr + (wide + row) * W * C + channel
        for first in range(0, W, TW):
            inputs = ()
            for i in tl.static_range(TW + KW - 1):
                w = zero + first + i - KW // 2
                inside = is_channel & is_row & (w >= 0) & (w < W)
                inputs = inputs + (
                    tl.load(x_row + (first + i - KW // 2) * C, mask=inside, other=0.0).to(
                        tl.float32
                    ),
                )
            for j in tl.static_range(TW):
                grad = tl.load(
                    grad_row + (first + j) * C, mask=is_channel & (zero + first + j < W), other=0.0
                ).to(tl.float32)
                added = ()
                for dx in tl.static_range(KW):
                    added = added + (sums[dx] + inputs[j + dx] * grad,)
                sums = added
    for dx in tl.static_range(KW):
        at = ((part * KH + dy) * KW + dx) * C + channel
        tl.store(parts_ptr + at, sums[dx], mask=is_channel)


def convolve(
    x: Tensor, taps: Tensor, bias: Tensor, *, activation: str, keep: bool
) -> tuple[Tensor, Tensor]:
    """(B, H, W, C), (kh, kw, C), (C,), contiguous -> y and, with `keep`, y before activation."""
    batch, height, width, channels = x.shape
    y, before = torch.empty_like(x), torch.empty_like(x) if keep else x.new_empty(0)
    sizes = constants(width, channels, taps.shape[0], taps.shape[1])
    blocks = triton.cdiv(channels, sizes["CB"]), triton.cdiv(width, sizes["TW"])
    images = max(1, _MAX_ROWS // height)
    with torch.cuda.device_of(x):  # Triton launches on the current device
        for start in range(0, batch, images):
            part = slice(start, min(start + images, batch))
            _forward_kernel[(*blocks, (part.stop - start) * height)](
                x[part], taps, bias, y[part], before[part], height, width,
                ACTIVATION=_ACTIVATIONS[activation], KEEP=keep, **sizes,
            )  # fmt: skip
    return y, before


def weight_gradient(x: Tensor, grad: Tensor, kh: int, kw: int) -> Tensor:
    """(B, H, W, C) images and gradients, contiguous -> (kh, kw, C) gradient of the taps."""
    batch, height, width, channels = x.shape
    count = min(_PARTS, batch * height)
    parts = x.new_empty((count, kh, kw, channels), dtype=torch.float32)
    sizes = constants(width, channels, kh, kw)
    grid = (triton.cdiv(channels, sizes["CB"]), kh, count)
    with torch.cuda.device_of(x):
        _weight_kernel[grid](x, grad, parts, batch * height, height, width, PARTS=count, **sizes)
    return parts.sum(0).to(x.dtype)


def constants(width: int, channels: int, kh: int, kw: int) -> dict[str, int]:
    """What a launch is compiled for; `TW` and `CB` keep the sums of a program in registers."""
    return {
        "C": channels,
        "KH": kh,
        "KW": kw,
        "TW": min(8, triton.next_power_of_2(width)),
        "CB": min(128, triton.next_power_of_2(channels)),
        "num_warps": 2,
        "enable_fp_fusion": True,
    }
