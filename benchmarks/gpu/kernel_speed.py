"""The fused Triton kernels beside plain PyTorch, eager and compiled: time and bytes a second.

    python -m benchmarks.gpu.kernel_speed --output OUT/kernel_speed.json

DynaMixer's mixing at the two sizes of DynaMixer-S, and depthwise convolutions with GELU, 5 x 5 to
9 x 9 and split, channels-last; in bf16. "plain" is what models do without the kernels. All take
turns, round by round; a step is forward and backward. Bytes are the least that must be moved: each
input read once, each result written once. Every variant is held to the plain one in float32.

On a CPU the kernels run in Triton's interpreter at tiny sizes, and "compiled" is traced only.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.frame.experiment import Case, Result, main
from models.kernels.axis_mixing import mix_axes
from models.kernels.depthwise import depthwise_conv2d
from models.layers.mixing_matrices import MixingOp

Function = Callable[..., tuple[Tensor, ...]]


class Mixing(NamedTuple):
    """Tokens of a line, segments, channels, images of a batch."""

    length: int
    segments: int
    channels: int
    batch: int


class Convolution(NamedTuple):
    """Height and width of the filter, side of the grid, channels, images of a batch."""

    kernel: tuple[int, int]
    side: int
    channels: int
    batch: int


SHAPES: dict[str, Mixing | Convolution] = {
    "mixing C192 L32": Mixing(32, 8, 192, 256),
    "mixing C384 L16": Mixing(16, 16, 384, 256),
    "depthwise 7x7 C768": Convolution((7, 7), 32, 768, 128),
    "depthwise 9x9 C1536": Convolution((9, 9), 32, 1536, 64),
    "depthwise 5x5 C256": Convolution((5, 5), 16, 256, 512),
    "depthwise 1x7 C768": Convolution((1, 7), 32, 768, 128),
    "depthwise 7x1 C768": Convolution((7, 1), 32, 768, 128),
}
VARIANTS = ("plain", "compiled", "kernel")
_ON_CPU = (*("mixing C192 L32", "depthwise 5x5 C256", "depthwise 1x7 C768", "depthwise 7x1 C768"),)
"""The interpreter is slow, and larger filters are the same kernel."""
_HEAD_START = 40_000_000
"""Cycles in which a GPU waits while the host enqueues what is timed: 20 ms."""


class _Given(MixingOp):
    """The models' own mixing, with logits that are given."""

    def logits(self, compressed: Tensor | None) -> Tensor:
        """Return them."""
        assert compressed is not None
        return compressed


def plain_mixing(shape: Mixing) -> Function:
    """Return what DynaMixer does without the kernel: mixed columns, mixed rows."""
    op = _Given(shape.channels, shape.length, shape.segments)

    def mix(x: Tensor, logits_h: Tensor, logits_w: Tensor) -> tuple[Tensor, Tensor]:
        columns = op(x.transpose(1, 2), logits_h).transpose(1, 2)
        return columns.flatten(3), op(x, logits_w).flatten(3)

    return mix


def plain_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor]:
    """What ConvMixer and SplitMixer do without the kernel."""
    return (F.gelu(F.conv2d(x, weight, bias, padding="same", groups=x.shape[1])),)


def fused_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor]:
    """The same with the kernel."""
    return (depthwise_conv2d(x, weight, bias, "gelu"),)


def measure(shape: Mixing | Convolution, device: torch.device) -> Result:
    """Measure the variants at one shape."""
    on_gpu = device.type == "cuda"
    torch.manual_seed(0)
    torch.compiler.reset()
    torch.backends.cudnn.allow_tf32 = False  # what all are held to is float32
    if isinstance(shape, Mixing):
        plain, fused, inputs = plain_mixing(shape), mix_axes, _mixing_inputs(shape)
    else:
        plain, fused, inputs = plain_convolution, fused_convolution, _convolution_inputs(shape)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    inputs = [tensor.to(device, dtype).requires_grad_() for tensor in inputs]
    # On a CPU it is traced alone: code that is compiled for one says nothing about a GPU.
    compiled = torch.compile(plain, dynamic=False, backend="inductor" if on_gpu else "aot_eager")
    functions = {"plain": plain, "compiled": compiled, "kernel": fused}
    in_float32 = [tensor.detach().float().requires_grad_() for tensor in inputs]
    grads = [torch.randn_like(result).to(dtype) for result in plain(*in_float32)]
    exact = _results(plain, in_float32, [grad.float() for grad in grads])
    differences = {
        name: _differences(_results(function, inputs, grads), exact)
        for name, function in functions.items()
    }
    forwards = {name: partial(_forward, f, inputs) for name, f in functions.items()}
    steps = {name: partial(_step, f, inputs, grads) for name, f in functions.items()}
    rounds, repeats = (7, 10) if on_gpu else (1, 1)
    return {
        "shape": shape._asdict(),
        "dtype": str(dtype).removeprefix("torch."),
        "largest_relative_differences": differences,
        "forward_bytes": _bytes([*inputs, *grads]),
        "step_bytes": 2 * _bytes([*inputs, *grads]) + _bytes(inputs),
        "forward_ms": interleaved_ms(forwards, device, rounds=rounds, repeats=repeats),
        "step_ms": interleaved_ms(steps, device, rounds=rounds, repeats=repeats),
    }


def _mixing_inputs(shape: Mixing) -> list[Tensor]:
    L, S, C, B = shape
    logits = [2 * torch.randn(B, L, S, L, L) for _ in range(2)]
    return [torch.randn(B, L, L, C), *logits]


def _convolution_inputs(shape: Convolution) -> list[Tensor]:
    kernel, side, channels, batch = shape
    images = torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last)
    return [images, torch.randn(channels, 1, *kernel) / kernel[0], torch.randn(channels)]


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _forward(function: Function, inputs: list[Tensor]) -> None:
    with torch.no_grad():
        function(*inputs)


def _step(function: Function, inputs: list[Tensor], grads: list[Tensor]) -> None:
    torch.autograd.grad(function(*inputs), inputs, grads)


def _results(function: Function, inputs: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
    """Return the results and the gradients of all inputs."""
    results = function(*inputs)
    return [*(r.detach() for r in results), *torch.autograd.grad(results, inputs, grads)]


def _differences(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Return of each tensor the largest difference, as a share of the largest number."""
    pairs = zip(found, exact, strict=True)
    return [float((a.float() - b).abs().max() / b.abs().max()) for a, b in pairs]


def interleaved_ms(
    work: dict[str, Callable[[], object]], device: torch.device, *, rounds: int, repeats: int
) -> dict[str, float]:
    """Return the median milliseconds of each of `work` over rounds, in which all take turns."""
    found: dict[str, list[float]] = {name: [] for name in work}
    order, warm_up = list(work), device.type == "cuda"
    for _ in range(warm_up + rounds):
        for name in order:
            found[name].append(_ms(work[name], device, repeats))
        order = order[1:] + order[:1]
    return {name: statistics.median(values[warm_up:]) for name, values in found.items()}


def _ms(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # Else the time of small shapes is the host's, who takes longer to launch than they take.
        torch.cuda._sleep(_HEAD_START)
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / repeats
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return 1000 * (time.perf_counter() - began) / repeats


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """Return a case a shape."""
    shapes = SHAPES
    if arguments.device.type == "cpu":
        _interpret()
        shapes = {name: _tiny(SHAPES[name]) for name in _ON_CPU}
    return {name: partial(measure, shape, arguments.device) for name, shape in shapes.items()}


def _interpret() -> None:
    """Begin anew with Triton's interpreter, which is chosen where Triton is imported."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        os.environ["TRITON_INTERPRET"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _tiny(shape: Mixing | Convolution) -> Mixing | Convolution:
    """The same with few numbers, for Triton's interpreter."""
    if isinstance(shape, Mixing):
        return Mixing(length=3, segments=2, channels=8, batch=1)
    return shape._replace(side=2, channels=4, batch=1)


if __name__ == "__main__":
    raise SystemExit(main(__doc__, cases))
