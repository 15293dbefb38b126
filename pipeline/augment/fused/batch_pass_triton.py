"""The Triton kernel of `batch_pass`.

A program makes `BLOCK` neighbouring numbers of one image, from its pixels and, where they have a
share in some of these numbers, its partner's. Whether they have is the same for all of a program,
so that pixels are read in wide pieces. The kernel is compiled without fused multiply-adds, since
torch normalises in two steps; the one that torch's `lerp` has is written out.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
def _rows(box_ptr):
    """The first row of a box and the one after its last: it is top, left, height, width."""
    top = tl.load(box_ptr).to(tl.int32)
    return top, top + tl.load(box_ptr + 2).to(tl.int32)


@triton.jit
def _is_inside(box_ptr, row, column):
    """Whether pixels are in a box."""
    top, bottom = _rows(box_ptr)
    left = tl.load(box_ptr + 1).to(tl.int32)
    right = left + tl.load(box_ptr + 3).to(tl.int32)
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)


@triton.jit
def _of_channel(ptr, channel):
    """Of three numbers, each pixel's: chosen in registers, where a load for each would wait."""
    others = tl.where(channel == 1, tl.load(ptr + 1), tl.load(ptr + 2))
    return tl.where(channel == 0, tl.load(ptr), others)


@triton.jit
def _erased_pixels(
    images_ptr, scale_ptr, shift_ptr, boxes_ptr, content_ptr, noise_ptr, image, at, wanted,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, COUNT: tl.constexpr, NOISE: tl.constexpr,
):  # fmt: skip
    """Numbers `at` of an image, normalised and erased; of no meaning where they are not wanted."""
    row, column, channel = at // (3 * WIDTH), at // 3 % WIDTH, at % 3
    raw = tl.load(images_ptr + image * (3 * HEIGHT * WIDTH) + at, mask=wanted, other=0)
    scale, shift = _of_channel(scale_ptr, channel), _of_channel(shift_ptr, channel)
    pixels = raw.to(tl.float32) * scale + shift
    for number in tl.static_range(COUNT):
        box = image * COUNT + number
        hit = _is_inside(boxes_ptr + 4 * box, row, column)
        if NOISE:
            start = tl.load(content_ptr + box)
            value = tl.load(noise_ptr + start + at, mask=wanted & hit, other=0.0)
        else:
            value = _of_channel(content_ptr + 3 * box, channel)
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
        box_ptr = pasted_ptr + 4 * image
        share = tl.load(weights_ptr + image)
        is_pasted = _is_inside(box_ptr, at // (3 * WIDTH), at // 3 % WIDTH)
        weight = tl.where(is_pasted, 0.0, share)
        first = tl.program_id(0) * BLOCK
        top, bottom = _rows(box_ptr)
        meets_box = (first < bottom * (3 * WIDTH)) & (first + BLOCK > top * (3 * WIDTH))
        # As a number, since the interpreter cannot mask by a scalar.
        end = tl.where(meets_box | (share != 1), 3 * HEIGHT * WIDTH, 0)
        own = _erased_pixels(
            images_ptr, scale_ptr, shift_ptr, boxes_ptr, content_ptr, noise_ptr,
            image, at, exists, HEIGHT, WIDTH, COUNT, NOISE,
        )  # fmt: skip
        partner = _erased_pixels(
            images_ptr, scale_ptr, shift_ptr, boxes_ptr, content_ptr, noise_ptr,
            tl.load(partners_ptr + image), at, at < end,
            HEIGHT, WIDTH, COUNT, NOISE,
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
    with torch.cuda.device_of(images):  # Triton launches on the current device
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
