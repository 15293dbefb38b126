"""Time a model four ways, interleaved: plain, ours, ours compiled whole and block by block.

"plain" is the transcription of the paper (`benchmarks/plain/`), run eagerly in the layout of the
published code. All have the same weights and see the same images. Rounds take turns, and ratios are
taken within a round, so that what else the machine does meanwhile hits all alike.
"""

import gc
import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, cast

import psutil
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from benchmarks import model_cost
from benchmarks.gpu.frame.device import wait
from benchmarks.model_cost import macs, parameters, peak_of, products
from benchmarks.model_limits.measured_peaks import measured_peak
from benchmarks.model_limits.product_share import shares
from models.build import compile_in_place
from models.half_norms import norms_in_half
from models.kernels import switch
from trainer.capacity import memory
from trainer.process.allocator import give_back

Mode = Literal["inference", "training"]
Step = Callable[[], None]

PLAIN_MODULES = {
    **{f"models.{family}": f"benchmarks.plain.{family}" for family in models.FAMILIES},
    "models.amixer_windowed": "benchmarks.plain.amixer",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to measure. `steps` are taken per round and variant; `channels_last` is about ours.

    With `autocast`, weights and images are float32, and products are of that type, as in training:
    in bfloat16, ours has its norms so, too, as the trainer gives it. `dtype` is the products' in
    any case.
    """

    batch_size: int
    rounds: int
    steps: int
    device: torch.device
    dtype: torch.dtype
    channels_last: bool
    autocast: bool = False
    compiled: tuple[str, ...] = ("whole", "blocks")

    @property
    def variants(self) -> tuple[str, ...]:
        """What is measured, the baseline first."""
        return ("plain", "ours", *self.compiled)

    @property
    def stored(self) -> torch.dtype:
        """The type of weights and images."""
        return torch.float32 if self.autocast else self.dtype

    def casting(self) -> AbstractContextManager[object]:
        """What a forward pass runs in."""
        return torch.autocast(self.device.type, self.dtype) if self.autocast else nullcontext()


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
    began = time.perf_counter()
    torch.compiler.reset()
    torch.manual_seed(0)
    runs = make_runs(name, mode, settings)
    reference = runs["plain"].output()
    first_step_s, difference = {}, {}
    for variant, run in runs.items():
        is_compiled = variant in settings.compiled
        with empty_compiler_cache(settings.device) if is_compiled else nullcontext():
            first_step_s[variant] = _seconds(run.step, settings.device)
        error = (run.output() - reference).abs().max() / reference.abs().max()
        difference[variant] = float(error)
    seconds = time_interleaved({key: run.step for key, run in runs.items()}, settings)
    kept_bytes = kept(settings.device)
    peaks = {key: peak_bytes(run.step, settings.device) for key, run in runs.items()}
    is_cpu = settings.device.type == "cpu"
    return {
        "model": name,
        "mode": mode,
        "batch_size": settings.batch_size,
        "parameters": parameters(runs["ours"].model),
        "macs": macs(lambda: make_plain(name), input_size(name)),
        "seconds_per_step": seconds,
        "first_step_s": first_step_s,
        "peak_bytes": peaks,
        "kept_bytes": kept_bytes,
        "largest_relative_difference_from_plain": difference,
        "shares_of_time": {key: shares(runs[key].step) for key in ("plain", "ours")}
        if is_cpu
        else None,
        "device_limits": device_limits(name, mode, settings),
        "measured_in_s": time.perf_counter() - began,
    }


@dataclass(frozen=True, slots=True)
class Run:
    """One variant, ready: its model, a step, and its evaluation output in float32."""

    model: nn.Module
    step: Step
    output: Callable[[], Tensor]


def make_runs(name: str, mode: Mode, settings: Settings) -> dict[str, Run]:
    """All variants with the same weights and the same images."""
    images = torch.randn(settings.batch_size, *input_size(name))
    images = images.to(settings.device, settings.stored)
    weights = make_ours(name).state_dict()
    runs = {}
    for variant in settings.variants:
        model = make_plain(name) if variant == "plain" else make_ours(name)
        model.load_state_dict(weights)
        if variant != "plain" and settings.autocast and settings.dtype == torch.bfloat16:
            norms_in_half(model)
        is_last = settings.channels_last and variant != "plain"
        layout = torch.channels_last if is_last else torch.contiguous_format
        model = model.to(settings.device, settings.stored, memory_format=layout)
        model.train(mode == "training")
        if variant in ("whole", "blocks"):
            compile_in_place(model, blocks=variant == "blocks")
        runs[variant] = _run(model, images.contiguous(memory_format=layout), mode, settings)
    return runs


def _run(model: nn.Module, images: Tensor, mode: Mode, settings: Settings) -> Run:
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)

    def infer() -> None:
        with torch.no_grad(), settings.casting():
            model(images)

    def train() -> None:
        model.zero_grad(set_to_none=True)
        with settings.casting():
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()

    def output() -> Tensor:
        with torch.set_grad_enabled(mode == "training"), settings.casting():
            return model(images).detach().float()

    return Run(model, train if mode == "training" else infer, output)


@contextmanager
def empty_compiler_cache(device: torch.device) -> Iterator[None]:
    """Nothing compiled before is found, but the C++ headers, which every model shares."""
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    # A process of the compiler's may still be writing when the folder goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
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
    wait(device)
    return time.perf_counter() - started


def time_interleaved(steps: dict[str, Step], settings: Settings) -> dict[str, list[float]]:
    """Seconds per step in each round, of CPU time if on a CPU; every round turns the order."""
    clock = time.process_time if settings.device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {key: [] for key in steps}
    order = list(steps)
    for _ in range(settings.rounds):  # the first steps, which are timed apart, have warmed up
        for key in order:
            wait(settings.device)
            started = clock()
            for _ in range(settings.steps):
                steps[key]()
            wait(settings.device)
            seconds[key].append((clock() - started) / settings.steps)
        order = order[1:] + order[:1]
    return seconds


def peak_bytes(step: Step, device: torch.device) -> int | None:
    """How much more memory is in use at the peak of a step than before it; None if unknown."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    return memory.peak_bytes(step) if sys.platform == "linux" else None


def kept(device: torch.device) -> int | None:
    """Bytes that the allocator holds and nobody uses, which are returned to the system."""
    if device.type == "cuda":
        return None
    gc.collect()
    before = psutil.Process().memory_info().rss
    give_back()
    return max(0, before - psutil.Process().memory_info().rss)


def device_limits(name: str, mode: Mode, settings: Settings) -> dict[str, object] | None:
    """What a step is held to, by `benchmarks.model_cost`; None where the peaks are not known.

    The operations are those of the paper's definition, the least time that of our products.
    """
    peak = (
        measured_peak(settings.dtype)
        if settings.device.type == "cpu"
        else peak_of(settings.device, settings.dtype)
    )
    if peak is None:
        return None
    training = mode == "training"
    given = {
        "input_size": input_size(name),
        "batch_size": settings.batch_size,
        "dtype": settings.dtype,
    }
    with switch.off():  # fused or not they are the same products
        ours = products(lambda: make_ours(name), **given)
    return {
        "flops_per_step": model_cost.step_flops(
            products(lambda: make_plain(name), **given), training=training
        ),
        "least_bytes_per_step": model_cost.least_bytes(ours, training=training),
        "least_s_per_step": model_cost.least_s(ours, peak, training=training),
        "matmul_flops_per_s": peak.matmul_flops_per_s,
        "fma_flops_per_s": peak.fma_flops_per_s,
        "bytes_per_s": peak.bytes_per_s,
        "peaks": peak.source,
    }


def median_ratio(baseline: list[float], other: list[float]) -> float:
    """How many times as fast `other` is: the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(baseline, other, strict=True))
