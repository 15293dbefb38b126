"""Depthwise k x k, 1 x k and k x 1 convolution with its activation, channels-last, as one operator.

Stride 1, odd kernels, zero padding that keeps the size. ConvMixer's and SplitMixer's spatial
mixing is this, then BatchNorm. Shapes: B batch, H W grid, C channels.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from models.kernels.triton_device import runs_triton

Activation = Literal["none", "relu", "gelu"]


def depthwise_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation = "none"
) -> Tensor:
    """Convolve each channel with its own filter, then apply the activation.

    Args:
        x: (B, C, H, W), best channels-last.
        weight: (C, 1, kh, kw), both odd.
        bias: (C,), or None for none.
        activation: "gelu" is the exact one.

    Returns:
        (B, C, H, W), channels-last, in x's dtype.

    Raises:
        ValueError: if the kernel is even or the activation unknown.
    """
    if activation not in get_args(Activation):
        raise ValueError(f"activation: unknown {activation!r}")
    if not (weight.shape[2] % 2 and weight.shape[3] % 2):
        raise ValueError(f"kernel_size: must be odd, got {tuple(weight.shape[2:])}")
    taps = weight.to(x.dtype).squeeze(1).permute(1, 2, 0).contiguous()  # (kh, kw, C)
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias))
    y, _ = _convolve(
        x.permute(0, 2, 3, 1).contiguous(),
        taps,
        bias.to(x.dtype).contiguous(),
        activation,
        keep=needs_grad and activation == "gelu",
    )
    return y.permute(0, 3, 1, 2)


@torch.library.custom_op("millstream::depthwise", mutates_args=())
def _convolve(
    x: Tensor, taps: Tensor, bias: Tensor, activation: str, keep: bool
) -> tuple[Tensor, Tensor]:
    """(B, H, W, C) convolved and activated; with `keep` also before the activation."""
    if runs_triton(x):
        from models.kernels.depthwise_triton import convolve

        return convolve(x, taps, bias, activation=activation, keep=keep)
    before = _plain(x, taps, bias)
    activate = {"none": torch.clone, "relu": F.relu, "gelu": F.gelu}[activation]
    return activate(before), before if keep else x.new_empty(0)


@_convolve.register_fake
def _(x: Tensor, taps: Tensor, bias: Tensor, activation: str, keep: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x) if keep else x.new_empty(0)


@torch.library.custom_op("millstream::depthwise_weight_grad", mutates_args=())
def _weight_grad(x: Tensor, grad: Tensor, height: int, width: int) -> Tensor:
    """(height, width, C): the gradient of the taps from that of the convolution."""
    if runs_triton(x):
        from models.kernels.depthwise_triton import weight_gradient

        return weight_gradient(x, grad, height, width)
    channels = x.shape[-1]
    summed = conv2d_weight(
        x.permute(0, 3, 1, 2),
        [channels, 1, height, width],
        grad.permute(0, 3, 1, 2),
        padding=(height // 2, width // 2),  # pyright: ignore[reportArgumentType]  # its stub is narrow
        groups=channels,
    )
    return summed.squeeze(1).permute(1, 2, 0).contiguous()


@_weight_grad.register_fake
def _(x: Tensor, grad: Tensor, height: int, width: int) -> Tensor:
    return x.new_empty((height, width, x.shape[-1]))


def _save(ctx, inputs: tuple[Tensor, Tensor, Tensor, str, bool], output) -> None:
    x, taps, _, ctx.activation, _ = inputs
    y, before = output
    ctx.mark_non_differentiable(before)
    ctx.save_for_backward(x, taps, y if ctx.activation == "relu" else before)


def _backward(ctx, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
    x, taps, kept = ctx.saved_tensors
    grad = grad.contiguous()
    if ctx.activation == "relu":
        grad = torch.where(kept > 0, grad, 0)
    elif ctx.activation == "gelu":
        grad = torch.ops.aten.gelu_backward(grad, kept)
    zero = torch.zeros_like(taps[0, 0])
    dx, _ = _convolve(grad, taps.flip(0, 1).contiguous(), zero, "none", keep=False)
    dtaps = _weight_grad(x, grad, taps.shape[0], taps.shape[1])
    return dx, dtaps, grad.sum((0, 1, 2)), None, None


_convolve.register_autograd(_backward, setup_context=_save)


def _plain(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    height, width, channels = taps.shape
    convolved = F.conv2d(
        x.permute(0, 3, 1, 2),
        taps.permute(2, 0, 1).unsqueeze(1),
        bias,
        padding=(height // 2, width // 2),
        groups=channels,
    )
    return convolved.permute(0, 2, 3, 1).contiguous()
