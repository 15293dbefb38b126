"""Compare kernels in Triton's interpreter with float64; a process of its own, see test_kernels.

Usage: interpreted.py SEED
"""

import random
import sys

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

import models  # noqa: F401  # registers ours
from models.kernels import depthwise_triton, switch
from models.kernels.axis_mixing import mix_axes
from models.kernels.depthwise import depthwise_conv2d
from models.kernels.triton_device import runs_triton

EPS = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def distance(mine: Tensor, exact: Tensor) -> float:
    return ((mine.double() - exact).norm() / exact.norm()).item()


def check(name, kernel, reference, inputs: list[Tensor]) -> None:
    """Outputs and gradients of `kernel` in three precisions against `reference` in float64."""
    for dtype, eps in EPS.items():
        exact = [t.to(dtype).double().requires_grad_() for t in inputs]
        mine = [t.to(dtype).requires_grad_() for t in inputs]
        assert runs_triton(mine[0]), "the kernel itself is to be tested"
        expected, got = reference(*exact), kernel(*mine)
        assert got.dtype == dtype
        grad = torch.randn_like(expected)
        pairs = [(got, expected)]
        pairs += zip(
            torch.autograd.grad(got, mine, grad.to(dtype)),
            torch.autograd.grad(expected, exact, grad.to(dtype).double()),
            strict=True,
        )
        for number, (a, b) in enumerate(pairs):
            assert distance(a, b) < eps, f"{name} {dtype} part {number}: {distance(a, b):.1e}"


def plain_mix(x: Tensor, logits_h: Tensor, logits_w: Tensor) -> Tensor:
    """Line by line, segment by segment."""
    y = torch.zeros(2, *x.shape, dtype=x.dtype)
    segments = logits_h.shape[2]
    size = x.shape[3] // segments
    for s in range(segments):
        part = slice(s * size, (s + 1) * size)
        for w in range(x.shape[2]):
            y[0, :, :, w, part] = logits_h[:, w, s].softmax(-1) @ x[:, :, w, part]
        for h in range(x.shape[1]):
            y[1, :, h, :, part] = logits_w[:, h, s].softmax(-1) @ x[:, h, :, part]
    return y


def axis_mixing(draw: random.Random) -> None:
    square = draw.randint(2, 5)
    for height, width in ((square, square), (draw.randint(1, 4), draw.randint(5, 6))):
        segments, size = draw.randint(1, 3), draw.randint(1, 20)
        inputs = [
            torch.randn(1, height, width, segments * size),
            3 * torch.randn(1, width, segments, height, height),
            3 * torch.randn(1, height, segments, width, width),
        ]
        name = f"{height}x{width}, {segments} segments of {size}"
        check(name, lambda *t: torch.stack(mix_axes(*t)), plain_mix, inputs)


def depthwise(draw: random.Random) -> None:
    activations = {"none": torch.clone, "relu": F.relu, "gelu": F.gelu}
    for activation, activate in activations.items():
        kernel = draw.choice([(1, 3), (3, 1), (3, 3)])
        channels, height, width = draw.choice([3, 17]), draw.randint(1, 3), draw.randint(1, 5)
        inputs = [
            torch.randn(1, channels, height, width),
            torch.randn(channels, 1, *kernel),
            torch.randn(channels, 2)[:, 0],  # apart in memory
        ]

        def reference(x, weight, bias, channels=channels, activate=activate):
            return activate(F.conv2d(x, weight, bias, padding="same", groups=channels))

        check(
            f"{activation} {kernel} {channels}x{height}x{width}",
            lambda *t, activation=activation: depthwise_conv2d(*t, activation),
            reference,
            inputs,
        )


def depthwise_in_parts(draw: random.Random) -> None:
    """More rows than a launch takes: of some images at a time, and of one at least."""
    inputs = [torch.randn(3, 3, 2, 3), torch.randn(3, 1, 3, 1), torch.randn(3)]
    for most in (1, 5):
        depthwise_triton._MAX_ROWS = most
        check(
            f"at most {most} rows",
            lambda *t: depthwise_conv2d(*t, "gelu"),
            lambda x, weight, bias: F.gelu(F.conv2d(x, weight, bias, padding="same", groups=3)),
            inputs,
        )


def whole_models(draw: random.Random) -> None:
    """A model with kernels equals the model without: logits and every gradient."""
    for name, arguments in (
        ("dynamixer_nano", {"depths": (1, 1), "img_size": 16, "segments": 2}),
        ("splitmixer_i_256_8", {"dim": 12, "depth": 1, "kernel_size": 3, "img_size": 6}),
        ("convmixer_256_8", {"dim": 12, "depth": 1, "kernel_size": 3, "img_size": 6}),
    ):
        torch.manual_seed(draw.randint(0, 10**6))
        model = timm.create_model(name, **arguments)
        images = torch.randn(2, 3, arguments["img_size"], arguments["img_size"])
        results = []
        for switch.ENABLED in (False, True):
            model.zero_grad()
            logits = model(images)
            logits.logsumexp(1).sum().backward()
            results.append([logits.detach(), *(p.grad.clone() for p in model.parameters())])
        scale = max(g.abs().max() for g in results[0][1:])
        for without, used in zip(*results, strict=True):
            assert (without - used).abs().max() < 1e-5 * max(scale, 1), name


if __name__ == "__main__":
    torch.set_num_threads(1)
    seed = int(sys.argv[1])
    torch.manual_seed(seed)
    for compare in (axis_mixing, depthwise, whole_models, depthwise_in_parts):
        compare(random.Random(seed))
