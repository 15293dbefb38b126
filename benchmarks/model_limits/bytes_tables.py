"""Tables of docs/model_speed.md about bytes, from what `model_bytes` beside it counted."""

import json
from typing import Any

from benchmarks.model_limits.model_bytes import KINDS, OUTPUT


def tables() -> dict[str, str]:
    """Return the tables by their mark."""
    report = json.loads(OUTPUT.read_text(encoding="utf-8"))
    return {mode: table(report, mode) for mode in ("bytes in inference", "bytes in training")}


def table(report: dict[str, Any], mark: str) -> str:
    """Return a row a model: megabytes an image, and what those of ours are for."""
    mode = mark.removeprefix("bytes in ")
    kinds = [*KINDS, "elementwise"]
    heads = ["model", "least", "plain, eager", "ours, eager", *kinds]
    lines = [f"| {' | '.join(heads)} |", "| --- " + "| ---: " * (len(heads) - 1) + "|"]
    for result in report["results"]:
        counted = result[mode]
        least = counted["least"]
        cells = [result["model"], f"{least / 1e6:.0f}"]
        for variant in ("plain", "ours"):
            total = sum(counted[variant].values())
            cells.append(f"{total / 1e6:.0f} ({total / least:.1f}x)")
        total = sum(counted["ours"].values())
        cells += [f"{counted['ours'].get(kind, 0) / total:.0%}" for kind in kinds]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
