"""A training step of ours beside the same in plain PyTorch, on batches that lie on the device.

    python -m benchmarks.gpu.train_step --output OUT/train_step.json

ZeRO stages 0 and 1, eager and compiled block by block, in bf16: milliseconds of a step; what the
host takes to enqueue it, which must be less, or the device waits; how often a step makes the host
wait for the device (counted by the profiler among the calls of CUDA's runtime); and what the device
spends its time on. The narrow model has DynaMixer-S's 494 tensors with as little arithmetic as can
be: there the host's work is all. Settings of DeepSpeed that we turn off, and the poll for stop
signals, are measured on it too. All variants of a case take turns.

On a CPU the models are small, and nothing waits.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.engine.memory_run import Case, Step, our_step, plain_step
from benchmarks.gpu.frame import experiment
from benchmarks.gpu.frame.device import wait
from benchmarks.gpu.frame.experiment import Result
from benchmarks.gpu.model_runs import PLAIN_STEP, SETTINGS, STEPS
from trainer.engine import engine
from trainer.engine.process_group import init_process_group
from trainer.process.world import bootstrap

WHOLE = Case(model="dynamixer_s", size=224, per_rank=256, dtype="bf16")
NARROW = Case(
    model="dynamixer_s",
    size=56,
    per_rank=2,
    arguments={"dims": (16, 32, 32, 32), "img_size": 56},
    dtype="bf16",
)
_SMALL = Case(model="dynamixer_nano", size=32, per_rank=4, arguments={"depths": (1, 1)})
_MODELS = (WHOLE, replace(WHOLE, compiled=True), NARROW, replace(NARROW, compiled=True))
CASES = dict(zip(STEPS, _MODELS, strict=True))
STAGES = (0, 1)
DEEPSPEED_SETTINGS: dict[str, dict[str, object]] = {
    "stage 1, DeepSpeed's timer": {"timers": {"throughput": {"enabled": True}}},
    "stage 1, overlap_comm": {"zero_optimization": {"overlap_comm": True}},
    "stage 1, DeepSpeed's norm": {"zero_optimization": {"compute_grad_norm": True}},
}
"""What we turn off, turned on again."""
_WAITS = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize")
_STEP = "one step"
_ROWS = 15


@contextmanager
def deepspeed_with(settings: dict[str, object]) -> Iterator[None]:
    """Let engines that are made meanwhile have other settings of DeepSpeed's."""
    made = engine.deepspeed_config

    def config(*arguments: Any, **options: Any) -> dict[str, object]:
        mine = made(*arguments, **options)
        for key, value in settings.items():
            inner = mine.get(key)
            is_section = isinstance(inner, dict) and isinstance(value, dict)
            mine[key] = {**inner, **value} if is_section else value
        return mine

    with mock.patch.object(engine, "deepspeed_config", config):
        yield


def variants_of(case: Case) -> dict[str, Step]:
    """Return the step by hand and ours at each stage."""
    return {PLAIN_STEP: plain_step(case)} | {f"stage {s}": our_step(case, s) for s in STAGES}


def settings_of(case: Case) -> dict[str, Step]:
    """Return our step with single settings turned off or on."""
    steps = {
        "stage 0": our_step(case, 0),
        "stage 0, no poll": our_step(case, 0, polls=False),
        "stage 1": our_step(case, 1),
    }
    for name, settings in DEEPSPEED_SETTINGS.items():
        with deepspeed_with(settings):
            steps[name] = our_step(case, 1)
    return steps


def measure(device: torch.device, steps: Callable[[], dict[str, Step]], case: Case) -> Result:
    """Measure the variants of a case."""
    torch.compiler.reset()
    on_gpu = device.type == "cuda"
    rounds, count, warm_up = (7, 10, 3) if on_gpu else (2, 1, 1)
    variants = steps()
    for step in variants.values():
        for _ in range(warm_up):
            step()
    wait(device)
    return {
        "images": case.per_rank,
        "tensors": len(list(case.build().parameters())),
        **timed(variants, device, rounds=rounds, count=count),
        "profiles": {name: profiled(step, device) for name, step in variants.items()},
    }


def timed(
    variants: dict[str, Step], device: torch.device, *, rounds: int, count: int
) -> dict[str, dict[str, float]]:
    """Return median milliseconds of a step, and of enqueuing it, by variant."""
    whole: dict[str, list[float]] = {name: [] for name in variants}
    host: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for _ in range(rounds):
        for name in order:
            began = time.perf_counter()
            for _ in range(count):
                variants[name]()
            enqueued = time.perf_counter()
            wait(device)
            whole[name].append(1000 * (time.perf_counter() - began) / count)
            host[name].append(1000 * (enqueued - began) / count)
        order = order[1:] + order[:1]
    return {
        "step_ms": {name: statistics.median(values) for name, values in whole.items()},
        "host_ms": {name: statistics.median(values) for name, values in host.items()},
    }


def profiled(step: Step, device: torch.device) -> Result:
    """Return waits of the host a step, and the operations that take the most time."""
    on_gpu = device.type == "cuda"
    count = 3 if on_gpu else 1
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(count):
            with record_function(_STEP):
                step()
        wait(device)
    averages = [row for row in profiler.key_averages() if row.key != _STEP]
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = sorted(averages, key=lambda row: getattr(row, key), reverse=True)[:_ROWS]
    return {
        "waits_per_step": waits(list(profiler.events() or ())) / count,
        "operations": [
            {"name": row.key, "calls": row.count / count, "us": getattr(row, key) / count}
            for row in rows
        ],
    }


def waits(events: list[FunctionEvent]) -> int:
    """Return how many calls within the steps wait for the device; not those at the end."""
    # A GPU has spans of the steps of its own, which lie later, about the wait at the end.
    spans = [
        event.time_range
        for event in events
        if event.name == _STEP and event.device_type == DeviceType.CPU
    ]
    return sum(
        any(span.start <= event.time_range.start <= span.end for span in spans)
        for event in events
        if event.name in _WAITS
    )


def cases(arguments: argparse.Namespace) -> dict[str, experiment.Case]:
    """Return a case a model and way to run it, and one of single settings."""
    device, chosen, narrow = arguments.device, CASES, NARROW
    if device.type == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        chosen, narrow = {"dynamixer_s, eager": _SMALL}, _SMALL
    bootstrap()
    init_process_group()
    found = {
        name: partial(measure, device, partial(variants_of, case), case)
        for name, case in chosen.items()
    }
    return {**found, SETTINGS: partial(measure, device, partial(settings_of, narrow), narrow)}


if __name__ == "__main__":
    code = experiment.main(__doc__, cases)
    if dist.is_initialized():
        dist.destroy_process_group()
    raise SystemExit(code)
