"""DynaMixer's softmax and mixing of both axes as one operator; the matrices are never written.

For each image, line and channel segment, y = softmax(logits) x, where the lines of axis 0 are the
columns of the token grid and those of axis 1 its rows (equation 3 of
https://arxiv.org/abs/2201.12083). The derivative recomputes the softmax P from the logits:

    dx = P^T dy,    dlogits = P * (g - rowsum(P * g))  with  g = dy x^T.

Shapes: B batch, H W token grid, C channels, S segments of C/S channels; the matrices are
[..., target, source].
"""

import torch
from torch import Tensor

from models.kernels.triton_device import runs_triton


def mix_axes(x: Tensor, logits_h: Tensor, logits_w: Tensor) -> tuple[Tensor, Tensor]:
    """Mix columns and rows.

    Args:
        x: (B, H, W, C).
        logits_h: (B, W, S, H, H), of the columns.
        logits_w: (B, H, S, W, W), of the rows.

    Returns:
        The mixed columns and the mixed rows, (B, H, W, C) each, in the logits' dtype.
    """
    mixed = _mix(x.to(logits_h.dtype).contiguous(), logits_h.contiguous(), logits_w.contiguous())
    columns, rows = mixed.unbind(0)
    return columns, rows


@torch.library.custom_op("millstream::mix_axes", mutates_args=())
def _mix(x: Tensor, logits_h: Tensor, logits_w: Tensor) -> Tensor:
    """(2, B, H, W, C): columns, rows."""
    if runs_triton(x):
        from models.kernels.axis_mixing_triton import mix_forward

        return mix_forward(x, logits_h, logits_w)
    segments = x.unflatten(-1, (logits_h.shape[2], -1))  # (B, H, W, S, c)
    columns = torch.einsum("bwsji,biwsc->bjwsc", _softmax(logits_h), segments)
    rows = torch.einsum("bhsji,bhisc->bhjsc", _softmax(logits_w), segments)
    return torch.stack([columns, rows]).flatten(-2)


@_mix.register_fake
def _(x: Tensor, logits_h: Tensor, logits_w: Tensor) -> Tensor:
    return x.new_empty((2, *x.shape))


@torch.library.custom_op("millstream::mix_axes_backward", mutates_args=())
def _mix_backward(
    x: Tensor, logits_h: Tensor, logits_w: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, of the columns' and of the rows' logits; `grad` is (2, B, H, W, C)."""
    if runs_triton(x):
        from models.kernels.axis_mixing_triton import mix_backward

        return mix_backward(x, logits_h, logits_w, grad)
    count = logits_h.shape[2]
    segments, grads = x.unflatten(-1, (count, -1)), grad.unflatten(-1, (count, -1))
    mixing_h, mixing_w = _softmax(logits_h), _softmax(logits_w)
    dx = torch.einsum("bwsji,bjwsc->biwsc", mixing_h, grads[0])
    dx = dx + torch.einsum("bhsji,bhjsc->bhisc", mixing_w, grads[1])
    g_h = torch.einsum("bjwsc,biwsc->bwsji", grads[0], segments)
    g_w = torch.einsum("bhjsc,bhisc->bhsji", grads[1], segments)
    dlogits_h, dlogits_w = (
        (p * (g - (p * g).sum(-1, keepdim=True))).to(x.dtype)
        for p, g in ((mixing_h, g_h), (mixing_w, g_w))
    )
    return dx.flatten(-2).contiguous(), dlogits_h, dlogits_w


@_mix_backward.register_fake
def _(x: Tensor, logits_h: Tensor, logits_w: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(logits_h), torch.empty_like(logits_w)


def _save(ctx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _mix_backward(*ctx.saved_tensors, grad.contiguous())


_mix.register_autograd(_backward, setup_context=_save)


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32)).to(
        logits.dtype
    )
