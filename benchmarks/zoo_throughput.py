"""How many images a second models classify, side by side, at several batch sizes.

Models take turns, round by round, so that whatever else the machine does hits all alike. Two clocks
run: the wall's, and that of this process's CPU time, which says more on a machine that others use
too. What would not fit in the time given is named in the results, and a run that was interrupted
goes on.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.frame.device import wait
from benchmarks.machine import machine
from benchmarks.paper_figures import PUBLISHED_SPEED
from benchmarks.resumed import Report, begun
from pipeline.storage.files import write_atomically

COMPARED = (
    *("resmlp_24_224", "dynamixer_s", "vip_s7", "vip_m7", "dynamixer_m", "vip_l7"),
    *("gmlp_s16_224", "mixer_b16_224", "eamlp_14", "cyclemlp_b2", "hire_mlp_small", "as_mlp_tiny"),
    *("smlpnet_tiny", "s2_mlpv2_small_7", "raftmlp_m", "convmlp_m", "gfnet_h_ti", "lvvit_s"),
    *("amixer_t", "resnet50", "deit_small_patch16_224", "swin_tiny_patch4_window7_224"),
)
"""Those of the slides' table of speeds first, then one of each family at about the size of S."""

Maker = Callable[[], tuple[nn.Module, tuple[int, int, int]]]
"""Makes a model; gives it with the (channels, height, width) of its images."""

Stepper = Callable[[int], Callable[[], None]]
"""For a batch size, what classifies one batch, whose images are made already."""

FEW = 4
"""Images of the batch from which a step's time is guessed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How to measure: the first batch size has `budget_s` seconds, the others what it leaves."""

    batch_sizes: Sequence[int]
    rounds: int
    budget_s: float
    device: torch.device


def measure(makers: Mapping[str, Maker], plan: Plan, output: Path) -> Report:
    """Time models in their order; raw seconds, written to `output` after every step.

    What `output` has already is not measured again, and its choice of models stays.

    Returns:
        `machine`, `settings`, `results` of one model at one batch size each, with the seconds of
        every step, and `left_out`, with the seconds that each would have taken.

    Raises:
        DataError: if `output` has results of another machine, or of other settings.
    """
    started = time.monotonic()
    names = list(makers)
    report = begun(output, machine=_machine(plan), settings=_settings(names, plan)) or {}
    if report and all(_missing(result, plan.rounds) == 0 for result in report["results"]):
        return report
    needed = {result["model"] for result in report["results"]} if report else set(makers)
    steps = {name: _stepper(*makers[name](), plan) for name in makers if name in needed}
    if not report:
        report = _chosen(names, steps, plan, started)
        _write(output, report)
    for size in plan.batch_sizes:
        rows = [result for result in report["results"] if result["batch_size"] == size]
        for left in range(plan.rounds, 0, -1):
            for row in rows:
                if _missing(row, plan.rounds) == left:
                    wall, cpu = _seconds(steps[row["model"]], size)
                    row["seconds"].append(wall)
                    row["cpu_seconds"].append(cpu)
                    report["machine"]["load"] = os.getloadavg()
                    _write(output, report)
    return report


def _chosen(names: list[str], steps: Mapping[str, Stepper], plan: Plan, started: float) -> Report:
    """Return a report without seconds: what is measured, and what does not fit in the time."""
    per_image = {name: _seconds(step, FEW, repeats=2)[0] / FEW for name, step in steps.items()}
    seconds_left = plan.budget_s - (time.monotonic() - started)
    results: list[dict[str, object]] = []
    left_out: list[dict[str, object]] = []
    for size in plan.batch_sizes:
        for name in steps:
            guess = per_image[name] * size * plan.rounds
            if guess <= seconds_left:
                seconds_left -= guess
                results.append(
                    {"model": name, "batch_size": size, "seconds": [], "cpu_seconds": []}
                )
            else:
                left_out.append({"model": name, "batch_size": size, "would_take_s": guess})
    return {
        "machine": _machine(plan),
        "settings": _settings(names, plan),
        "results": results,
        "left_out": left_out,
    }


def _machine(plan: Plan) -> dict[str, object]:
    is_gpu = plan.device.type == "cuda"
    return {
        **machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if is_gpu else "cpu",
    }


def _settings(names: list[str], plan: Plan) -> dict[str, object]:
    return {
        "what": "inference, float32, channels-last, eager",
        "models": names,
        "batch_sizes": list(plan.batch_sizes),
        "rounds": plan.rounds,
        "budget_s": plan.budget_s,
    }


def _missing(result: Report, rounds: int) -> int:
    return rounds - len(result["seconds"])


def _write(output: Path, report: Report) -> None:
    write_atomically(output, (json.dumps(report, indent=1) + "\n").encode())


def _stepper(model: nn.Module, size: tuple[int, int, int], plan: Plan) -> Stepper:
    model = model.eval().to(plan.device).to(memory_format=torch.channels_last)

    def at(batch_size: int) -> Callable[[], None]:
        images = torch.randn(batch_size, *size, device=plan.device)
        images = images.contiguous(memory_format=torch.channels_last)

        def step() -> None:
            model(images)
            wait(plan.device)

        return step

    return at


@torch.no_grad()
def _seconds(stepper: Stepper, batch_size: int, repeats: int = 1) -> tuple[float, float]:
    """The least of some steps by the wall's clock, and by the process's."""
    step = stepper(batch_size)
    taken: list[tuple[float, float]] = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(taken)


def section(report: Mapping[str, Any]) -> str:
    """A report as a part of docs/model_zoo.md: images a second, by the median step."""
    about, settings = report["machine"], report["settings"]
    sizes = settings["batch_sizes"]
    heads = ["model", *(f"{size}: images/s" for size in sizes)]
    heads += [f"{size}: images per CPU-second" for size in sizes] + ["published, on a GPU"]
    speeds: dict[str, dict[int, tuple[float, float]]] = {}
    for result in (each for each in report["results"] if each["seconds"]):
        size = result["batch_size"]
        medians = (statistics.median(result[key]) for key in ("seconds", "cpu_seconds"))
        wall, cpu = (size / seconds for seconds in medians)
        speeds.setdefault(result["model"], {})[size] = (wall, cpu)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, by_size in speeds.items():
        cells = [
            f"{by_size[s][clock]:.2f}" if s in by_size else "" for clock in (0, 1) for s in sizes
        ]
        lines.append(f"| {' | '.join([name, *cells, PUBLISHED_SPEED.get(name, '')])} |")
    batches = " and ".join(map(str, sizes))
    conditions = (
        f"{settings['what'].capitalize()}, in batches of {batches}; median of {settings['rounds']} "
        f"rounds in which the models took turns; {about['threads']} thread(s) on {about['cpu']}, "
        f"load {about['load'][0]:.1f} at the end, torch {about['torch']}, {about['date']}."
    )
    skipped = ", ".join(f"{each['model']} at {each['batch_size']}" for each in report["left_out"])
    if skipped:
        conditions += f" Not in the {settings['budget_s']:g} seconds given: {skipped}."
    return "\n".join([f"## Images a second, {about['device']}", "", conditions, "", *lines, ""])
