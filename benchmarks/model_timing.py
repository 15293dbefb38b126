"""Time a model four ways, interleaved: plain, ours, ours compiled whole and block by block.

"plain" is the transcription of the paper (`benchmarks/plain_*.py`), run eagerly in the layout of
the published code. All four have the same weights and see the same images. Rounds take turns, and
ratios are taken within a round, so that what else the machine does meanwhile hits all alike.
"""

import ctypes
import gc
import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import models
from benchmarks.model_cost import macs, parameters, peak_of, products
from models.build import compile_in_place

Mode = Literal["inference", "training"]
Step = Callable[[], None]
VARIANTS = ("plain", "ours", "whole", "blocks")

PLAIN_MODULES = {
    **{f"models.{family}": f"benchmarks.plain.{family}" for family in models.FAMILIES},
    "models.amixer_windowed": "benchmarks.plain.amixer",
}

PRODUCT_OPS = {
    "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_convolution",
    "aten::convolution_backward", "aten::_slow_conv2d_forward", "aten::_slow_conv2d_backward",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to measure. `steps` are taken per round and variant; `channels_last` is about ours."""

    batch_size: int
    rounds: int
    steps: int
    device: torch.device
    dtype: torch.dtype
    channels_last: bool


def input_size(name: str) -> tuple[int, int, int]:
    """(channels, height, width) that the variant is made for."""
    config = timm.get_pretrained_cfg(models.resolve(name)[0])
    assert config is not None
    return config.input_size


def make_ours(name: str) -> nn.Module:
    """The registered model without stochastic depth and dropout, which the plain one has not."""
    name, arguments = models.resolve(name)
    create = cast("Callable[..., nn.Module]", timm.create_model)
    model = create(name, drop_path_rate=0.0, **arguments)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def make_plain(name: str) -> nn.Module:
    """The transcription of the same variant; a model that is timm's own defines itself."""
    name, arguments = models.resolve(name)
    source = timm.model_entrypoint(name).__module__
    if source not in PLAIN_MODULES:
        return timm.create_model(name)
    return importlib.import_module(PLAIN_MODULES[source]).plain(name, **arguments)


def measure(name: str, mode: Mode, settings: Settings) -> dict[str, object]:
    """Everything that is known about one model in one mode; see docs/model_speed.md."""
    torch.compiler.reset()
    torch.manual_seed(0)
    runs = make_runs(name, mode, settings)
    reference = runs["plain"].output()
    first_step_s, difference = {}, {}
    for variant, run in runs.items():
        with empty_compiler_cache(settings.device):
            first_step_s[variant] = _seconds(run.step, settings.device)
        error = (run.output() - reference).abs().max() / reference.abs().max()
        difference[variant] = float(error)
    seconds = time_interleaved({key: run.step for key, run in runs.items()}, settings)
    memory = {key: peak_bytes(run.step, settings.device) for key, run in runs.items()}
    eager = {key: run for key, run in runs.items() if key in ("plain", "ours")}
    return {
        "model": name,
        "mode": mode,
        "batch_size": settings.batch_size,
        "parameters": parameters(runs["ours"].model),
        "macs": macs(lambda: make_plain(name), input_size(name)),
        "seconds_per_step": seconds,
        "first_step_s": first_step_s,
        "peak_bytes": memory,
        "largest_relative_difference_from_plain": difference,
        "share_of_time_in_products": {k: product_share(r.step) for k, r in eager.items()}
        if settings.device.type == "cpu"
        else None,
        "device_limits": device_limits(name, mode, settings),
    }


@dataclass(frozen=True, slots=True)
class Run:
    """One variant, ready: its model, a step, and its evaluation output in float32."""

    model: nn.Module
    step: Step
    output: Callable[[], Tensor]


def make_runs(name: str, mode: Mode, settings: Settings) -> dict[str, Run]:
    """The four variants with the same weights and the same images."""
    images = torch.randn(settings.batch_size, *input_size(name))
    images = images.to(settings.device, settings.dtype)
    weights = make_ours(name).state_dict()
    runs = {}
    for variant in VARIANTS:
        model = make_plain(name) if variant == "plain" else make_ours(name)
        model.load_state_dict(weights)
        is_last = settings.channels_last and variant != "plain"
        layout = torch.channels_last if is_last else torch.contiguous_format
        model = model.to(settings.device, settings.dtype, memory_format=layout)
        model.train(mode == "training")
        if variant in ("whole", "blocks"):
            compile_in_place(model, blocks=variant == "blocks")
        runs[variant] = _run(model, images.contiguous(memory_format=layout), mode)
    return runs


def _run(model: nn.Module, images: Tensor, mode: Mode) -> Run:
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)

    def infer() -> None:
        with torch.no_grad():
            model(images)

    def train() -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(images).float(), labels).backward()

    def output() -> Tensor:
        with torch.set_grad_enabled(mode == "training"):
            return model(images).detach().float()

    return Run(model, train if mode == "training" else infer, output)


@contextmanager
def empty_compiler_cache(device: torch.device) -> Iterator[None]:
    """Nothing compiled before is found, but the C++ headers, which every model shares."""
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        try:
            torch.compile(torch.neg)(torch.ones(64, device=device))
            yield
        finally:
            if before is None:
                del os.environ["TORCHINDUCTOR_CACHE_DIR"]
            else:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = before


def _seconds(step: Step, device: torch.device) -> float:
    started = time.perf_counter()
    step()
    _synchronize(device)
    return time.perf_counter() - started


def time_interleaved(steps: dict[str, Step], settings: Settings) -> dict[str, list[float]]:
    """Seconds per step in each round, of CPU time if on a CPU; every round turns the order."""
    clock = time.process_time if settings.device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {key: [] for key in steps}
    order = list(steps)
    for _ in range(1 + settings.rounds):  # the first warms up
        for key in order:
            _synchronize(settings.device)
            started = clock()
            for _ in range(settings.steps):
                steps[key]()
            _synchronize(settings.device)
            seconds[key].append((clock() - started) / settings.steps)
        order = order[1:] + order[:1]
    return {key: values[1:] for key, values in seconds.items()}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(step: Step, device: torch.device) -> int | None:
    """How much more memory is in use at the peak of a step than before it; None if unknown."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    if sys.platform != "linux":
        return None
    ctypes.CDLL(None).malloc_trim(0)  # memory that is free already would hide the peak
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark
    before = _status_bytes("VmRSS")
    step()
    return _status_bytes("VmHWM") - before


def _status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def product_share(step: Step) -> float:
    """Share of an eager step's CPU time that matrix products and convolutions take themselves."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    return sum(times.get(key, 0.0) for key in PRODUCT_OPS) / sum(times.values())


def device_limits(name: str, mode: Mode, settings: Settings) -> dict[str, float] | None:
    """Operations of a step as the paper defines it, and the least time of ours' products.

    The least time takes each product at the device's peak or at the speed of reading its operands
    and writing its result once, whichever is longer, and everything else as free.
    """
    peak = peak_of(settings.device, settings.dtype)
    if peak is None:
        return None
    arguments = {
        "input_size": input_size(name),
        "batch_size": settings.batch_size,
        "training": mode == "training",
        "dtype": settings.dtype,
    }
    return {
        "flops_per_step": sum(p.flops for p in products(lambda: make_plain(name), **arguments)),
        "least_s_per_step": sum(
            p.least_s(peak) for p in products(lambda: make_ours(name), **arguments)
        ),
        "matmul_flops_per_s": peak.matmul_flops_per_s,
    }


def median_ratio(baseline: list[float], other: list[float]) -> float:
    """How many times as fast `other` is: the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(baseline, other, strict=True))
