"""The Triton kernels of `axis_mixing`.

One program mixes one channel segment of one line of one image. Where the token grid is square, one
launch does both axes. Sums are float32, products have the input's precision.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.kernels.triton_device import product_type


@triton.jit
def _softmax_rows(ptr, L: tl.constexpr, LP: tl.constexpr):
    """The softmax of an L x L matrix over its last dimension, padded with zeros to LP x LP."""
    at = tl.arange(0, LP)
    inside = (at[:, None] < L) & (at[None, :] < L)
    logits = tl.load(ptr + at[:, None] * L + at[None, :], mask=inside, other=float("-inf"))
    logits = logits.to(tl.float32)
    largest = tl.where(at < L, tl.max(logits, 1), 0.0)
    p = tl.exp(logits - largest[:, None])
    total = tl.where(at < L, tl.sum(p, 1), 1.0)
    return p / total[:, None]


@triton.jit
def _place(
    pid, first_axis, batch, LINES: tl.constexpr, L: tl.constexpr, S: tl.constexpr, C: tl.constexpr
):
    """Of a program: axis, number of its matrix, offsets of its line, its output and a token."""
    segment = pid % S
    line = (pid // S) % LINES
    image = (pid // (S * LINES)) % batch
    axis = first_axis + pid // (S * LINES * batch)
    token_stride = tl.where(axis == 0, LINES * C, C)
    line_stride = tl.where(axis == 0, C, L * C)
    offset = image.to(tl.int64) * (L * LINES * C) + line * line_stride + segment * (C // S)
    matrix = (image.to(tl.int64) * LINES + line) * S + segment
    out = axis.to(tl.int64) * batch * (L * LINES * C) + offset
    return axis, matrix, offset, out, token_stride


@triton.jit
def _forward_kernel(
    x_ptr, logits_h_ptr, logits_w_ptr, y_ptr, first_axis, batch,
    LINES: tl.constexpr, L: tl.constexpr, LP: tl.constexpr, S: tl.constexpr, C: tl.constexpr,
    CP: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    axis, matrix, offset, out, token_stride = _place(
        tl.program_id(0), first_axis, batch, LINES, L, S, C
    )
    logits_ptr = logits_h_ptr
    if axis == 1:
        logits_ptr = logits_w_ptr
    p = _softmax_rows(logits_ptr + matrix * (L * L), L, LP)
    token, channel = tl.arange(0, LP)[:, None], tl.arange(0, CP)[None, :]
    inside = (token < L) & (channel < C // S)
    at = token * token_stride + channel
    x = tl.load(x_ptr + offset + at, mask=inside, other=0.0)
    y = tl.dot(p.to(x.dtype).to(DOT), x.to(DOT), input_precision="ieee")
    tl.store(y_ptr + out + at, y.to(x.dtype), mask=inside)


@triton.jit
def _backward_kernel(
    x_ptr, logits_h_ptr, logits_w_ptr, dy_ptr, dx_ptr, dlogits_h_ptr, dlogits_w_ptr,
    first_axis, batch,
    LINES: tl.constexpr, L: tl.constexpr, LP: tl.constexpr, S: tl.constexpr, C: tl.constexpr,
    CP: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    axis, matrix, offset, out, token_stride = _place(
        tl.program_id(0), first_axis, batch, LINES, L, S, C
    )
    logits_ptr = logits_h_ptr
    dlogits_ptr = dlogits_h_ptr
    if axis == 1:
        logits_ptr = logits_w_ptr
        dlogits_ptr = dlogits_w_ptr
    p = _softmax_rows(logits_ptr + matrix * (L * L), L, LP)
    token, channel = tl.arange(0, LP)[:, None], tl.arange(0, CP)[None, :]
    inside = (token < L) & (channel < C // S)
    at = token * token_stride + channel
    x = tl.load(x_ptr + offset + at, mask=inside, other=0.0)
    dy = tl.load(dy_ptr + out + at, mask=inside, other=0.0)
    dx = tl.dot(tl.trans(p).to(x.dtype).to(DOT), dy.to(DOT), input_precision="ieee")
    tl.store(dx_ptr + out + at, dx.to(x.dtype), mask=inside)
    g = tl.dot(dy.to(DOT), tl.trans(x).to(DOT), input_precision="ieee")
    dlogits = p * (g - tl.sum(p * g, 1)[:, None])
    source = tl.arange(0, LP)[None, :]
    tl.store(
        dlogits_ptr + matrix * (L * L) + token * L + source,
        dlogits.to(x.dtype),
        mask=(token < L) & (source < L),
    )


def mix_forward(x: Tensor, logits_h: Tensor, logits_w: Tensor) -> Tensor:
    """(B, H, W, C), (B, W, S, H, H), (B, H, S, W, W), contiguous -> (2, B, H, W, C)."""
    y = x.new_empty((2, *x.shape))
    _launch(_forward_kernel, x, logits_h.shape[2], x, logits_h, logits_w, y)
    return y


def mix_backward(
    x: Tensor, logits_h: Tensor, logits_w: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x and of both logits; `grad` is (2, B, H, W, C), contiguous."""
    dx = torch.empty_like(grad)
    dlogits = torch.empty_like(logits_h), torch.empty_like(logits_w)
    _launch(_backward_kernel, x, logits_h.shape[2], x, logits_h, logits_w, grad, dx, *dlogits)
    return dx[0] + dx[1], *dlogits


def launches(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """(first axis, axes, line length, lines) of each launch."""
    if height == width:
        return [(0, 2, height, width)]
    return [(0, 1, height, width), (1, 1, width, height)]


def constants(
    length: int, lines: int, channels: int, segments: int, dtype: torch.dtype
) -> dict[str, object]:
    """What a launch is compiled for."""
    return {
        "DOT": product_type(dtype),
        "LINES": lines,
        "L": length,
        "LP": max(16, triton.next_power_of_2(length)),
        "S": segments,
        "C": channels,
        "CP": max(16, triton.next_power_of_2(channels // segments)),
        "num_warps": 1 if length <= 32 else 4,
        "enable_fp_fusion": True,
    }


def _launch(kernel, x: Tensor, segments: int, *tensors: Tensor) -> None:
    batch, height, width, channels = x.shape
    with torch.cuda.device_of(x):  # Triton launches on the current device
        for first_axis, axes, length, lines in launches(height, width):
            grid = (axes * batch * lines * segments,)
            kernel[grid](
                *tensors, first_axis, batch, **constants(length, lines, channels, segments, x.dtype)
            )
