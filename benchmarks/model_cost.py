"""What a model costs by counting: parameters, multiply-adds, and the least time on a device.

Counted on PyTorch's meta device, so any size of model on any machine. A multiply-add (MAC) is half
of what torch.utils.flop_counter counts: matrix products and convolutions, also those with "same"
padding, which fvcore and thop leave out; nothing else.

The least bytes of a forward pass: each product reads its operands once, weights included, and
writes its result once; all that lies between two products is done on the way and moves nothing; and
a mixing matrix that the tokens generate is never in memory, neither written nor read. Left out, so
that the bound is below what any program does: residual sums, the channels that pass by a
convolution, the statistics of BatchNorm. A backward pass costs twice the forward pass, in
operations as in bytes: it reads the result's gradient twice, operand and weight once, and writes a
gradient of each. Products of the images have no gradient to hand on, and cost once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    source: str


def peak_of(device: torch.device, dtype: torch.dtype) -> Peak | None:
    """The GPU's peak for products of `dtype` by its data sheet, if it is known."""
    if device.type != "cuda":
        return None
    peaks = peaks_of(torch.cuda.get_device_name(device))
    if peaks is None:
        return None
    tf32 = torch.backends.cuda.matmul.allow_tf32
    matmul = peaks.flops_per_s("fp32" if dtype == torch.float32 else "bf16", allow_tf32=tf32)
    return Peak(matmul, peaks.fp32, peaks.bytes_per_s, peaks.source)


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product or convolution of the forward pass: its operations, its least bytes."""

    flops: int
    bytes: int
    is_depthwise: bool
    reads_images: bool

    def passes(self, *, training: bool) -> int:
        """How many times the cost of the forward pass a step costs."""
        if not training:
            return 1
        return 2 if self.reads_images else 3

    def least_s(self, peak: Peak, *, training: bool) -> float:
        """Of a step: at the peak or at the memory's speed, whichever is longer.

        Depthwise convolutions do not run on matrix units.
        """
        flops_per_s = peak.fma_flops_per_s if self.is_depthwise else peak.matmul_flops_per_s
        once = max(self.flops / flops_per_s, self.bytes / peak.bytes_per_s)
        return self.passes(training=training) * once


_IMAGES = -1
"""In place of the number of a product: nothing but the images."""


class ProductRecorder(TorchDispatchMode):
    """Notes each matrix product and convolution that runs inside it.

    Args:
        images: what the model is given; what was computed from neither images nor products is a
            weight.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.products: list[Product] = []
        # Of each tensor's memory: the last product that it was computed from. All are kept, or
        # another could get an address a second time.
        self._last: dict[int, int] = {_memory(images): _IMAGES}
        self._kept: list[object] = [images]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        """Run the operation and note it."""
        out = func(*args, **(kwargs or {}))
        operands = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        self._kept += results
        numbers = [self._last[_memory(t)] for t in operands if _memory(t) in self._last]
        kind = func._overloadpacket
        if kind is torch.ops.aten.convolution:
            flops = 2 * out.numel() * args[1][0].numel()
            self._note(flops, operands, results, depthwise=is_depthwise(args[1]))
        elif kind in flop_registry:
            flops = flop_registry[kind](*args, **(kwargs or {}), out_val=out)
            self._note(flops, operands, results, depthwise=False)
        elif numbers:
            for tensor in results:
                self._last[_memory(tensor)] = max(numbers)
        return out

    def _note(
        self, flops: int, operands: list[Tensor], results: list[Tensor], *, depthwise: bool
    ) -> None:
        numbers = [self._last.get(_memory(t)) for t in operands]
        moved = operands + results
        if (generated := self._generated(operands)) is not None:
            moved = [t for t in moved if t is not generated]
            maker = self._last[_memory(generated)]
            written = self.products[maker].bytes - touched(generated)
            self.products[maker] = replace(self.products[maker], bytes=written)
        self.products.append(
            Product(
                flops,
                sum(map(touched, moved)),
                is_depthwise=depthwise,
                reads_images=_IMAGES in numbers,
            )
        )
        for tensor in results:
            self._last[_memory(tensor)] = len(self.products) - 1

    def _generated(self, operands: list[Tensor]) -> Tensor | None:
        """The operand that is a mixing matrix: square, and made after what it mixes."""
        made = {self._last.get(_memory(t)): t for t in operands}
        if len(operands) != 2 or len(made) != 2 or None in made or _IMAGES in made:
            return None
        last = made[max(number for number in made if number is not None)]
        return last if last.shape[-1] == last.shape[-2] else None


def _memory(tensor: Tensor) -> int:
    """What views of one tensor have in common."""
    return tensor.untyped_storage()._cdata


def touched(tensor: Tensor) -> int:
    """Bytes of its elements; of an expanded one, those that there are."""
    size = tensor.element_size()
    return min(tensor.numel() * size, tensor.untyped_storage().nbytes())


def is_depthwise(weight: Tensor) -> bool:
    """Whether a convolution's weight (out, in / groups, height, width) has one input channel."""
    return weight.shape[1] == 1


def products(
    make_model: Callable[[], nn.Module],
    *,
    input_size: tuple[int, int, int],
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
) -> list[Product]:
    """The products of a forward pass."""
    with torch.device("meta"):
        model = make_model().to(dtype).eval()
        images = torch.empty(batch_size, *input_size, dtype=dtype)
    recorder = ProductRecorder(images)
    with torch.no_grad(), recorder:
        model(images)
    return recorder.products


def step_flops(products: Sequence[Product], *, training: bool) -> int:
    """Operations of a step."""
    return sum(p.flops * p.passes(training=training) for p in products)


def least_bytes(products: Sequence[Product], *, training: bool) -> int:
    """Bytes of a step, read and written, by the rule above."""
    return sum(p.bytes * p.passes(training=training) for p in products)


def least_s(products: Sequence[Product], peak: Peak, *, training: bool) -> float:
    """Seconds of a step on the roofline: the longer of arithmetic and memory for each product."""
    return sum(p.least_s(peak, training=training) for p in products)


def macs(make_model: Callable[[], nn.Module], input_size: tuple[int, int, int]) -> int:
    """Multiply-adds of the forward pass of one image."""
    return step_flops(products(make_model, input_size=input_size), training=False) // 2


def parameters(model: nn.Module) -> int:
    """Number of parameters; buffers do not count."""
    return sum(p.numel() for p in model.parameters())
