"""Normalise, erase and mix as one operator: pixels are read once and written once.

Step by step each of the three reads and writes the whole batch, in float32. Here a Triton kernel
does all of it on a GPU; elsewhere, and where Triton is not installed, plain PyTorch does, of the
same signature. The bits are those of `pipeline.augment.batches` done step by step.

Shapes: B batch, H W image (H = W where anything is erased or mixed), M boxes erased of an image at
most.
"""

import importlib.util
from typing import NamedTuple

import torch
from torch import Tensor

_HAS_TRITON = importlib.util.find_spec("triton") is not None
_TYPES = (torch.uint8, torch.float32, torch.bfloat16, torch.float16)
"""What pixels the kernel takes."""


class Erased(NamedTuple):
    """What is erased, later boxes over earlier ones.

    Attributes:
        boxes: (B, M, 4) int64: top, left, height, width; height 0 where there is none.
        content: (B, M) int64 places in `noise` where a box's noise begins, or (B, M, 3) float32
            colours.
        noise: float32; empty where boxes have colours.
    """

    boxes: Tensor
    content: Tensor
    noise: Tensor


class Mixed(NamedTuple):
    """How images are mixed.

    Attributes:
        partners: (B,) int64 positions of those that they are mixed with.
        weights: (B,) float32 share of the own image outside of the box.
        boxes: (B, 4) int64 taken from the partner alone.
    """

    partners: Tensor
    weights: Tensor
    boxes: Tensor


def finish(
    images: Tensor,
    *,
    scale: Tensor,
    shift: Tensor,
    erased: Erased | None,
    mixed: Mixed | None,
    dtype: torch.dtype,
) -> Tensor:
    """Return images as the model takes them.

    Args:
        images: (B, 3, H, W) pixels of any number type, best channels-last.
        scale: (3,) float32, by which pixels are multiplied.
        shift: (3,) float32, which is added then.
        erased: of the normalised pixels.
        mixed: after that.
        dtype: of what is returned; it is computed in float32.

    Returns:
        (B, 3, H, W), channels-last.
    """
    nothing = torch.empty(0, device=images.device)
    no_boxes = torch.empty((len(images), 0, 4), dtype=torch.int64, device=images.device)
    erased = erased or Erased(no_boxes, nothing, nothing)
    pixels = _finish(
        images.permute(0, 2, 3, 1).contiguous(),
        *(scale, shift, *erased),
        *(mixed or (None, None, None)),
        dtype,
    )
    return pixels.permute(0, 3, 1, 2)


@torch.library.custom_op("millstream::finish_batch", mutates_args=())
def _finish(
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
    """(B, H, W, 3) contiguous -> the same shape; the rest as in `Erased` and `Mixed`."""
    if runs_triton(images):
        from pipeline.augment.fused.batch_pass_triton import finish_pixels

        return finish_pixels(
            *(images, scale, shift, boxes, content, noise, partners, weights, pasted, dtype)
        )
    size = images.shape[2]
    pixels = images.flatten(2).float() * scale.repeat(size) + shift.repeat(size)  # (B, H, 3W)
    for number in range(boxes.shape[1]):
        values = box_values(content[:, number], noise, size)
        pixels = torch.where(inside(boxes[:, number], size), values, pixels)
    if partners is not None and weights is not None and pasted is not None:
        weight = torch.where(inside(pasted, size), 0.0, weights[:, None, None])
        pixels = torch.lerp(pixels[partners], pixels, weight)
    return pixels.to(dtype).unflatten(2, (-1, 3))


@_finish.register_fake
def _(
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
    return torch.empty_like(images, dtype=dtype)


def runs_triton(images: Tensor) -> bool:
    """Whether the kernel can take them."""
    return _HAS_TRITON and images.is_cuda and images.dtype in _TYPES


def inside(boxes: Tensor, size: int) -> Tensor:
    """Return (B, size, 3 size) bool: the pixels in each of the (B, 4) boxes."""
    line = torch.arange(size, device=boxes.device)
    start, end = boxes[:, :2, None], boxes[:, :2, None] + boxes[:, 2:, None]
    rows, columns = ((line >= start) & (line < end)).unbind(1)  # (B, size) each
    return rows[:, :, None] & columns.repeat_interleave(3, dim=1)[:, None]


def box_values(content: Tensor, noise: Tensor, size: int) -> Tensor:
    """Return (B, H, 3W) pixels that boxes are erased with; (B, 1, 3W) where all rows are equal.

    Args:
        content: (B,) places in `noise`, or (B, 3) colours.
        noise: float32.
        size: H = W.
    """
    if content.ndim == 1:
        return noise.unfold(0, 3 * size**2, 1)[content].view(-1, size, 3 * size)
    return content.repeat(1, size)[:, None]
