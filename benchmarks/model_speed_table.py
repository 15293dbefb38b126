"""The table of docs/model_speed.md, from the raw results that benchmarks/bench_model.py writes."""

import statistics
from typing import Any

from benchmarks.model_timing import median_ratio

Report = dict[str, Any]


COMMAND = "python -m benchmarks.bench_model --table docs/model_speed.md --results"
INTRODUCTION = f"""\
# Model speed

Made by
`{COMMAND} benchmarks/results/model_speed*`
from the raw results of `benchmarks/bench_model.py`. Each model runs four ways, taking turns in one
process, with the same weights and images and without stochastic depth: the paper's definition
transcribed (`benchmarks/plain/`), eager and in the layout of the published code; ours, eager;
ours, compiled as a whole; and ours, compiled block by block. A step of training is a forward and a
backward pass with cross entropy, without the optimizer. A figure like 1.30x is how many times as
fast as plain a step is: the median of the ratios within the rounds.

- The first step's time is that of compiling, from an empty cache, plus a step.
- Peak memory is what a step takes on top of the weights and images.
- Time in products is the share of an eager step's time that matrix products and convolutions take
  themselves: what no arrangement of the rest can save.
- MFU is the model's operations, as the paper defines them, by the time of the fastest of ours and
  the device's peak. The roofline's time takes each of our products at the peak of the device or of
  its memory, whichever is longer, and all else as free. Both are empty where no GPU was at hand.
"""


def page(reports: list[Report]) -> str:
    """The whole of docs/model_speed.md."""
    return f"{INTRODUCTION}\n{render(reports)}"


def render(reports: list[Report]) -> str:
    """Markdown: for every report its machine, and a table per mode."""
    return "\n".join(line for report in reports for line in _report(report))


def _report(report: Report) -> list[str]:
    machine, settings = report["machine"], report["settings"]
    is_gpu = settings["device"] == "cuda"
    where = machine["gpu"] if is_gpu else f"{machine['cpu']}, {settings['threads']} thread(s)"
    lines = [
        f"## {where}, {settings['dtype']}, {settings['layout'].replace('_', '-')}",
        "",
        f"Measured {machine['date']} with Python {machine['python']} and torch {machine['torch']}; "
        f"medians of {settings['rounds']} interleaved rounds; "
        + ("wall clock." if is_gpu else "CPU time."),
        "",
    ]
    for mode in ("inference", "training"):
        results = [result for result in report["results"] if result["mode"] == mode]
        if results:
            lines += [f"### {mode.capitalize()}", "", *_table(results, is_gpu), ""]
    return lines


def _table(results: list[Report], is_gpu: bool) -> list[str]:
    heads = [
        "model", "batch", "params [M]", "MACs [G]", "plain [ms/image]", "ours", "compiled whole",
        "compiled by block", "first step whole / block [s]",
        "peak memory plain / ours / whole [MB]",
        "time in products plain / ours", "MFU", "of the roofline",
    ]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(_cells(result))} |" for result in results]
    return lines


def _cells(result: Report) -> list[str]:
    seconds, memory = result["seconds_per_step"], result["peak_bytes"]
    plain_ms = 1e3 * statistics.median(seconds["plain"]) / result["batch_size"]
    ratios = [
        f"{median_ratio(seconds['plain'], seconds[variant]):.2f}x"
        for variant in ("ours", "whole", "blocks")
    ]
    first = result["first_step_s"]
    shares = result["share_of_time_in_products"]
    return [
        result["model"],
        str(result["batch_size"]),
        f"{result['parameters'] / 1e6:.2f}",
        f"{result['macs'] / 1e9:.3f}",
        f"{plain_ms:.3f}",
        *ratios,
        f"{first['whole']:.0f} / {first['blocks']:.0f}",
        " / ".join(_megabytes(memory[key]) for key in ("plain", "ours", "whole")),
        f"{shares['plain']:.0%} / {shares['ours']:.0%}" if shares else "",
        *_limits(result),
    ]


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.0f}"


def _limits(result: Report) -> list[str]:
    """Of the fastest of ours: model FLOP utilisation, share of the roofline; empty on a CPU."""
    limits = result["device_limits"]
    if limits is None:
        return ["", ""]
    seconds = result["seconds_per_step"]
    fastest_s = min(statistics.median(seconds[key]) for key in ("ours", "whole", "blocks"))
    utilisation = limits["flops_per_step"] / fastest_s / limits["matmul_flops_per_s"]
    return [f"{utilisation:.1%}", f"{limits['least_s_per_step'] / fastest_s:.0%}"]
