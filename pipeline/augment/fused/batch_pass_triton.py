"""The Triton kernel of `batch_pass`.

A program makes `BLOCK` neighbouring numbers of one image, each from one pixel of it and, where
images are mixed, one of its partner; of the two, only what has a share is read. The kernel is
compiled without fused multiply-adds, since torch normalises in two steps; the one that torch's
`lerp` has is written out.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
def _is_inside(boxes_ptr, row, column):
    """Whether pixels are in a box: top, left, height, width."""
    top, left = tl.load(boxes_ptr), tl.load(boxes_ptr + 1)
    bottom, right = top + tl.load(boxes_ptr + 2), left + tl.load(boxes_ptr + 3)
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)


@triton.jit
def _erased_pixels(
    images_ptr, scale_ptr, shift_ptr, boxes_ptr, content_ptr, noise_ptr, image, at, wanted,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, COUNT: tl.constexpr, NOISE: tl.constexpr,
):  # fmt: skip
    """Numbers `at` of an image, normalised and erased; of no meaning where they are not wanted."""
    row, column, channel = at // (3 * WIDTH), at // 3 % WIDTH, at % 3
    raw = tl.load(images_ptr + image * (3 * HEIGHT * WIDTH) + at, mask=wanted, other=0)
    pixels = raw.to(tl.float32) * tl.load(scale_ptr + channel) + tl.load(shift_ptr + channel)
    for number in tl.static_range(COUNT):
        box = image * COUNT + number
        hit = _is_inside(boxes_ptr + 4 * box, row, column)
        if NOISE:
            start = tl.load(content_ptr + box)
            value = tl.load(noise_ptr + start + at, mask=wanted & hit, other=0.0)
        else:
            value = tl.load(content_ptr + 3 * box + channel, mask=wanted & hit, other=0.0)
        pixels = tl.where(hit, value, pixels)
    return pixels


@triton.jit
def _finish_kernel(
    images_ptr, scale_ptr, shift_ptr, boxes_ptr, content_ptr, noise_ptr,
    partners_ptr, weights_ptr, pasted_ptr, out_ptr,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, COUNT: tl.constexpr, NOISE: tl.constexpr,
    MIX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    image = tl.program_id(1).to(tl.int64)
    exists = at < 3 * HEIGHT * WIDTH
    if MIX:
        is_pasted = _is_inside(pasted_ptr + 4 * image, at // (3 * WIDTH), at // 3 % WIDTH)
        weight = tl.where(is_pasted, 0.0, tl.load(weights_ptr + image))
        own = _erased_pixels(
            images_ptr, scale_ptr, shift_ptr, boxes_ptr, content_ptr, noise_ptr,
            image, at, exists & (weight != 0), HEIGHT, WIDTH, COUNT, NOISE,
        )  # fmt: skip
        partner = _erased_pixels(
            images_ptr, scale_ptr, shift_ptr, boxes_ptr, content_ptr, noise_ptr,
            tl.load(partners_ptr + image), at, exists & (weight != 1), HEIGHT, WIDTH, COUNT, NOISE,
        )  # fmt: skip
        is_less = weight < 0.5
        base = tl.where(is_less, partner, own)
        pixels = tl.fma(tl.where(is_less, weight, weight - 1.0), own - partner, base)
    else:
        pixels = _erased_pixels(
            images_ptr, scale_ptr, shift_ptr, boxes_ptr, content_ptr, noise_ptr,
            image, at, exists, HEIGHT, WIDTH, COUNT, NOISE,
        )  # fmt: skip
    place = out_ptr + image * (3 * HEIGHT * WIDTH) + at
    tl.store(place, pixels.to(out_ptr.dtype.element_ty), mask=exists)


def finish_pixels(
    images: Tensor,
    scale: Tensor,
    shift: Tensor,
    boxes: Tensor,
    content: Tensor,
    noise: Tensor,
    partners: Tensor | None,
    weights: Tensor | None,
    pasted: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """(B, H, W, 3) contiguous -> the same shape; arguments as those of the operator."""
    out = torch.empty_like(images, dtype=dtype)
    batch, height, width, _ = images.shape
    sizes = constants(
        height, width, boxes.shape[1], noise=content.ndim == 2, mix=partners is not None
    )
    grid = (triton.cdiv(3 * height * width, _BLOCK), batch)
    _finish_kernel[grid](
        *(images, scale, shift, boxes, content, noise, partners, weights, pasted, out), **sizes
    )
    return out


def constants(
    height: int, width: int, boxes: int, *, noise: bool, mix: bool
) -> dict[str, int | bool]:
    """What a launch is compiled for: the images, boxes erased, with noise, and mixed."""
    return {
        "HEIGHT": height,
        "WIDTH": width,
        "COUNT": boxes,
        "NOISE": noise,
        "MIX": mix,
        "BLOCK": _BLOCK,
        "num_warps": 4,
        "enable_fp_fusion": False,
    }
