"""What a model costs by counting: parameters, multiply-adds, and the least time on an accelerator.

Counted on PyTorch's meta device, so any size of model on any machine. A multiply-add (MAC) is half
of what torch.utils.flop_counter counts: matrix products and convolutions, also those with "same"
padding, which fvcore and thop leave out; nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from models.device_peaks import peaks_of


@dataclass(frozen=True, slots=True)
class Peak:
    """What a device can do at most: dense matrix products, other arithmetic, memory."""

    matmul_flops_per_s: float
    fma_flops_per_s: float
    bytes_per_s: float


def peak_of(device: torch.device, dtype: torch.dtype) -> Peak | None:
    """The device's peak for products of `dtype`, if it is known."""
    if device.type != "cuda":
        return None
    peaks = peaks_of(torch.cuda.get_device_name(device))
    if peaks is None:
        return None
    tf32 = torch.backends.cuda.matmul.allow_tf32
    matmul = peaks.flops_per_s("fp32" if dtype == torch.float32 else "bf16", allow_tf32=tf32)
    return Peak(matmul, peaks.fp32, peaks.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix product or convolution: its operations, and its operands read or written once."""

    flops: int
    bytes: int
    is_depthwise: bool

    def least_s(self, peak: Peak) -> float:
        """Depthwise convolutions do not run on matrix units."""
        flops_per_s = peak.fma_flops_per_s if self.is_depthwise else peak.matmul_flops_per_s
        return max(self.flops / flops_per_s, self.bytes / peak.bytes_per_s)


class ProductRecorder(TorchDispatchMode):
    """Notes each matrix product and convolution that runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        """Run the operation and note it."""
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, out)) if isinstance(t, Tensor)]
        size_bytes = sum(t.numel() * t.element_size() for t in tensors)
        kind = func._overloadpacket
        if kind is torch.ops.aten.convolution:
            flops = 2 * out.numel() * args[1][0].numel()
            self.products.append(Product(flops, size_bytes, is_depthwise(args[1])))
        elif kind is torch.ops.aten.convolution_backward:
            # torch's own count of a grouped convolution's backward is too high by the groups.
            wanted = sum(out[i] is not None for i in (0, 1))
            flops = wanted * 2 * args[0].numel() * args[2][0].numel()
            self.products.append(Product(flops, size_bytes, is_depthwise(args[2])))
        elif kind in flop_registry:
            flops = flop_registry[kind](*args, **(kwargs or {}), out_val=out)
            self.products.append(Product(flops, size_bytes, is_depthwise=False))
        return out


def is_depthwise(weight: Tensor) -> bool:
    """Whether a convolution's weight (out, in / groups, height, width) has one input channel."""
    return weight.shape[1] == 1


def products(
    make_model: Callable[[], nn.Module],
    *,
    input_size: tuple[int, int, int],
    batch_size: int = 1,
    training: bool = False,
    dtype: torch.dtype = torch.float32,
) -> list[Product]:
    """The products of a forward pass, or of a forward and a backward pass."""
    with torch.device("meta"):
        model = make_model().to(dtype).train(training)
        images = torch.empty(batch_size, *input_size, dtype=dtype)
    recorder = ProductRecorder()
    with recorder, torch.set_grad_enabled(training):
        output = model(images)
        if training:
            output.sum().backward()
    return recorder.products


def macs(make_model: Callable[[], nn.Module], input_size: tuple[int, int, int]) -> int:
    """Multiply-adds of the forward pass of one image."""
    return sum(p.flops for p in products(make_model, input_size=input_size)) // 2


def parameters(model: nn.Module) -> int:
    """Number of parameters; buffers do not count."""
    return sum(p.numel() for p in model.parameters())
