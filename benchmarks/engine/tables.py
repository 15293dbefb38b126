"""The tables of docs/engine_speed.md, from the raw results of `bench_engine`.

    python -m benchmarks.engine.tables

writes them between the marks in the page, `<!-- NAME -->` and `<!-- end -->`. A test holds the page
to the raw results.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.marked_page import filled

RESULTS = Path(__file__).parents[1] / "results" / "engine_cpu.json"
PAGE = RESULTS.parents[2] / "docs" / "engine_speed.md"

STAGES = ("stage 0", "stage 1", "stage 2", "stage 3")
RATIO_GOALS = {"stage 0": 1.10, "stage 1": 1.10}
HOST_GOAL_MS = 3.0
NARROW = "dynamixer_s, narrow"
_NOTHING = "Not measured yet."

Report = dict[str, Any]


def read(path: Path = RESULTS) -> Report | None:
    """Return the raw results; None where nothing has been measured."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def tables(report: Report | None) -> dict[str, str]:
    """Return everything that the page takes from the results, by its mark."""
    if report is None:
        return dict.fromkeys(("machine", "steps", "host", "start-up"), _NOTHING)
    return {
        "machine": machine_sentence(report["about"]),
        "steps": steps(report),
        "host": host(report),
        "start-up": start_up(report),
    }


def page(text: str, report: Report | None) -> str:
    """Return `text` with everything in its place."""
    return filled(text, tables(report))


def ratio(run: Report, variant: str) -> float:
    """Return how many times as long a step takes as by hand: the median of the rounds' ratios."""
    wall = run["seconds"]["wall"]
    return statistics.median(a / b for a, b in zip(wall[variant], wall["plain"], strict=True))


def host_ms(run: Report, variant: str) -> float:
    """Return how many milliseconds a step takes longer than by hand: the rounds' median."""
    wall = run["seconds"]["wall"]
    pairs = zip(wall[variant], wall["plain"], strict=True)
    return 1000 * statistics.median(ours - plain for ours, plain in pairs)


def steps(report: Report) -> str:
    """Return the ratios of all cases but the narrow one."""
    lines = [
        f"| model | ranks | images a rank | by hand [ms] | {' | '.join(STAGES)} |",
        f"|---|---:|---:|---:|{'---:|' * len(STAGES)}",
    ]
    for run in report["steps"]:
        if run["case"] != NARROW:
            plain = 1000 * statistics.median(run["seconds"]["wall"]["plain"])
            ratios = [f"{ratio(run, stage):.2f}" for stage in STAGES]
            cells = [run["case"], run["ranks"], run["images_per_rank"], f"{plain:.0f}", *ratios]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    goals = [f"{RATIO_GOALS[stage]:.2f}" if stage in RATIO_GOALS else "" for stage in STAGES]
    lines.append(f"| goal, on a CPU | | | | {' | '.join(goals)} |")
    lines.append("| goal, on a GPU: 1.05 | | | not measured | | | | |")
    return "\n".join(lines)


def host(report: Report) -> str:
    """Return the host's work of a step beyond that by hand."""
    lines = [f"| | {' | '.join(STAGES)} | goal |", f"|---|{'---:|' * len(STAGES)}---:|"]
    for run in report["steps"]:
        if run["case"] == NARROW:
            extra = " | ".join(f"{host_ms(run, stage):.1f}" for stage in STAGES)
            what = f"ms a step, {run['tensors']} tensors"
            lines.append(f"| {what} | {extra} | {HOST_GOAL_MS:.0f} (stage 0) |")
    return "\n".join(lines)


def start_up(report: Report) -> str:
    """Return the seconds from the process's start to the end of the first step, by part."""
    runs = report["start_up"]
    heads = [f"`run.compile: {run['compile']}` [s]" for run in runs]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(runs)}"]
    for part in runs[0]["seconds"]:
        cells = [f"{run['seconds'][part]:.1f}" for run in runs]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine_sentence(about: Report) -> str:
    """Return where and with what it was measured."""
    named = ", ".join(f"{name} {about[name]}" for name in ("torch", "deepspeed", "timm"))
    load = about["load"][0]
    return (
        f"{about['cores']} cores of {about['cpu']}; {about['date']}, Python {about['python']},"
        f" {named}; load at the start {load:.1f}."
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")
