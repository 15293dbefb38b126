"""The tables of docs/loader_speed.md, from the raw results of `bench_loader`.

    python -m benchmarks.loader_tables

writes them between the marks in the page, `<!-- NAME -->` and `<!-- end -->`. A test holds the page
to the raw results.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.bench_loader import HOST
from benchmarks.loader_peers.measure import MEMORY_EVERY
from benchmarks.loader_peers.peers import NAMES
from benchmarks.marked_page import filled

RESULTS = Path(__file__).parent / "results" / "loader_speed.json"
PAGE = RESULTS.parents[2] / "docs" / "loader_speed.md"

GROUPS = {
    "crop and flip": ("limit", "DALI file reader"),
    "400 px": ("limit, 400 px", "FFCV 400 px"),
    "RandAugment": ("", "timm, uint8, RandAugment"),
    "evaluation": ("limit, evaluation", "DALI file reader, evaluation"),
}
"""What is compared: each table's limit and the peer that its rates are multiples of."""
GOALS = (
    (HOST, "DALI file reader", 1.7),
    (HOST, "limit", 0.8),
    ("ours: host, shards 400 px", "FFCV 400 px", 1.6),
    ("ours: host, evaluation", "DALI file reader, evaluation", 2.0),
    ("ours: host, shards, RandAugment", "timm, uint8, RandAugment", 2.4),
)

Report = dict[str, Any]


def read(path: Path = RESULTS) -> Report:
    """Return the raw results."""
    return json.loads(path.read_text(encoding="utf-8"))


def tables(report: Report) -> dict[str, str]:
    """Return everything that the page takes from the results, by its mark."""
    grouped = {name: table(report, name) for name in GROUPS}
    return {
        "machine": machine_sentence(report["about"]),
        **grouped,
        "goals": goals(report),
        "costs": costs(report),
        "scaling": scaling(report),
        "memory": memory(report),
    }


def page(text: str, report: Report) -> str:
    """Return `text` with everything in its place."""
    return filled(text, tables(report))


def rates(report: Report, peer: str) -> list[float]:
    """Return images per CPU-second of each round."""
    runs = [run for run in report["runs"] if (run["kind"], run["peer"]) == ("speed", peer)]
    return [run["images"] / run["cpu_s"] for run in runs if "unavailable" not in run]


def rate(report: Report, peer: str) -> float:
    """Return the median over the rounds; NaN where there is none."""
    found = rates(report, peer)
    return statistics.median(found) if found else float("nan")


def group_of(peer: str) -> str:
    """Return the table that a peer belongs to."""
    words = ("400 px", "RandAugment", "evaluation")
    return next((word for word in words if word in peer), "crop and flip")


def table(report: Report, group: str) -> str:
    """Return the peers of a group, fastest first; those not measured with the reason."""
    _, unit = GROUPS[group]
    peers = [name for name in NAMES if group_of(name) == group]
    peers.sort(key=lambda name: -max(rates(report, name), default=0))
    base = rate(report, unit)
    lines = [
        f"| | images per CPU-second | lowest - highest | images/s | x {unit} |",
        "|---|---:|---:|---:|---:|",
    ]
    for peer in peers:
        if found := rates(report, peer):
            spread = f"{min(found):,.0f} - {max(found):,.0f}"
            middle = statistics.median(found)
            cells = [f"{middle:,.0f}", spread, _wall(report, peer), f"{middle / base:.2f}"]
        else:
            cells = [f"not measured: {_reason(report, peer)}", "", "", ""]
        lines.append(f"| {peer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def goals(report: Report) -> str:
    """Return the ratios that we ask for, and those that were reached."""
    lines = ["| | reached | goal |", "|---|---:|---:|"]
    for ours, theirs, goal in GOALS:
        reached = rate(report, ours) / rate(report, theirs)
        lines.append(f"| `{ours}` / `{theirs}` | {reached:.2f} | {goal:.2f} |")
    return "\n".join(lines)


def costs(report: Report) -> str:
    """Return what is done beyond decoding, as differences of the rows above."""
    lines = ["| | microseconds an image |", "|---|---:|"]
    for what, more, less in (
        ("reading, checksum, draws and batches around our decoder", HOST, "limit"),
        ("the same, of 400 px", "ours: host, shards 400 px", "limit, 400 px"),
        ("RandAugment and erasing, ours", "ours: host, shards, RandAugment", HOST),
        ("RandAugment and erasing, timm", "timm, uint8, RandAugment", "timm, uint8"),
        ("RandAugment and erasing, DALI", "DALI file reader, RandAugment", "DALI file reader"),
    ):
        cost = 1e6 / rate(report, more) - 1e6 / rate(report, less)
        lines.append(f"| {what} | {cost:,.0f} |")
    return "\n".join(lines)


def scaling(report: Report) -> str:
    """Return images/s of our host loader by the number of its threads."""
    walls: dict[int, list[float]] = {}
    for run in _of_kind(report, "scaling"):
        walls.setdefault(run["threads"], []).append(run["images"] / run["wall_s"])
    if not walls:
        return "Not measured."
    medians = {threads: statistics.median(found) for threads, found in sorted(walls.items())}
    lines = ["| threads | images/s | x one thread |", "|---:|---:|---:|"]
    lines += [
        f"| {threads} | {median:,.0f} | {median / medians[1]:.2f} |"
        for threads, median in medians.items()
    ]
    return "\n".join(lines)


def memory(report: Report) -> str:
    """Return the memory over 200 epochs."""
    runs = _of_kind(report, "memory")
    if not runs:
        return "Not measured."
    epochs = range(MEMORY_EVERY, 1 + MEMORY_EVERY * len(runs[0]["megabytes"]), MEMORY_EVERY)
    cells = [f"{megabytes:,.0f}" for megabytes in runs[0]["megabytes"]]
    head = f"| after epoch | {' | '.join(map(str, epochs))} |"
    return "\n".join([head, f"|---{'|---:' * len(cells)}|", f"| MB | {' | '.join(cells)} |"])


def machine_sentence(about: Report) -> str:
    """Return what the figures were measured on."""
    size = about["bytes"] / about["photographs"] / 1e3
    versions = ("torch", "torchvision", "timm", "Pillow", "webdataset", "ffcv", "simplejpeg")
    named = ", ".join(f"{name} {about[name]}" for name in versions)
    return (
        f"{about['photographs']:,} photographs of {size:.0f} kB on average, each linked"
        f" {about['links']} times, read from the page cache; {about['cores']} cores of"
        f" {about['cpu']}, shared with others; {about['date']}, Python {about['python']},"
        f" DALI {about['nvidia-dali-cuda130']}, {named}."
    )


def _of_kind(report: Report, kind: str) -> list[Report]:
    return [run for run in report["runs"] if run["kind"] == kind and "unavailable" not in run]


def _wall(report: Report, peer: str) -> str:
    walls = [r["images"] / r["wall_s"] for r in _of_kind(report, "speed") if r["peer"] == peer]
    return f"{statistics.median(walls):,.0f}"


def _reason(report: Report, peer: str) -> str:
    reasons = [run.get("unavailable") for run in report["runs"] if run["peer"] == peer]
    return next(filter(None, reasons), "left out").partition(";")[0]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")
