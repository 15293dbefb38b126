"""The tables of docs/model_speed.md, from the raw results that are there.

    python -m benchmarks.model_speed_table

writes them between the marks in the page, `<!-- NAME -->` and `<!-- end -->`. A test holds the page
to the raw results.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.marked_page import filled
from benchmarks.model_limits import bytes_tables
from benchmarks.model_timing import median_ratio

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS.parents[1] / "docs" / "model_speed.md"

Report = dict[str, Any]


def read() -> dict[str, Report]:
    """Raw results by the name of their file."""
    paths = sorted(RESULTS.glob("model_speed*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def tables(reports: dict[str, Report]) -> dict[str, str]:
    """Return everything that the page takes from raw results, by its mark."""
    kept = [r for r in reports.values() if r["settings"].get("malloc") != "default"]
    return {
        "speed": render(kept),
        "products": products(kept),
        "malloc": malloc(list(reports.values())),
        **bytes_tables.tables(),
    }


def page(text: str, reports: dict[str, Report]) -> str:
    """Return `text` with everything in its place."""
    return filled(text, tables(reports))


def render(reports: list[Report]) -> str:
    """Markdown: for every report its machine, and a table per mode."""
    return "\n".join(line for report in reports for line in _report(report)).strip()


def _report(report: Report) -> list[str]:
    machine, settings = report["machine"], report["settings"]
    is_gpu = settings["device"] == "cuda"
    where = machine["gpu"] if is_gpu else f"{machine['cpu']}, {settings['threads']} thread(s)"
    lines = [
        f"### {where}, {type_of(settings)}, {settings['layout'].replace('_', '-')}",
        "",
        f"Measured {machine['date']} with Python {machine['python']} and torch {machine['torch']}; "
        f"medians of {settings['rounds']} interleaved rounds; "
        + ("wall clock." if is_gpu else "CPU time."),
        *_limits_sentence(report),
        "",
    ]
    for mode in ("inference", "training"):
        results = [result for result in report["results"] if result["mode"] == mode]
        if results:
            lines += [f"#### {mode.capitalize()}", "", *_table(results), ""]
    return lines


def type_of(settings: Report) -> str:
    """`bfloat16 autocast`, or the type of everything."""
    return f"{settings['dtype']} autocast" if settings["autocast"] else settings["dtype"]


def _limits_sentence(report: Report) -> list[str]:
    """The peaks that MFU and the roofline are held to, in the middle of what was found."""
    limits = [r["device_limits"] for r in report["results"] if r["device_limits"]]
    if not limits:
        return []
    matmul, memory = (
        statistics.median(each[key] for each in limits)
        for key in ("matmul_flops_per_s", "bytes_per_s")
    )
    return [
        f"Peaks ({limits[0]['peaks']}): {matmul / 1e12:.3g} TFLOP/s, {memory / 1e9:.3g} GB/s.",
    ]


def _table(results: list[Report]) -> list[str]:
    heads = [
        "model", "batch", "params [M]", "MACs [G]", "plain [ms/image]", "ours", "compiled whole",
        "compiled by block", "first step whole / block [s]",
        "peak memory plain / ours / whole / block [MB]",
        "time in products plain / ours", "MFU", "of the roofline",
    ]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(_cells(result))} |" for result in results]
    return lines


def _cells(result: Report) -> list[str]:
    seconds, memory = result["seconds_per_step"], result["peak_bytes"]
    plain_ms = 1e3 * statistics.median(seconds["plain"]) / result["batch_size"]
    first, shares = result["first_step_s"], result["shares_of_time"]
    return [
        result["model"],
        str(result["batch_size"]),
        f"{result['parameters'] / 1e6:.2f}",
        f"{result['macs'] / 1e9:.3f}",
        f"{plain_ms:.3f}",
        *(_ratio(seconds, variant) for variant in ("ours", "whole", "blocks")),
        " / ".join(_whole(first.get(key), 1) for key in ("whole", "blocks")),
        " / ".join(_whole(memory.get(key), 1e6) for key in ("plain", "ours", "whole", "blocks")),
        " / ".join(f"{shares[key]['products']:.0%}" for key in ("plain", "ours")) if shares else "",
        *_limits(result),
    ]


def _ratio(seconds: dict[str, list[float]], variant: str) -> str:
    if variant not in seconds:
        return ""
    return f"{median_ratio(seconds['plain'], seconds[variant]):.2f}x"


def _whole(number: float | None, unit: float) -> str:
    return "-" if number is None else f"{number / unit:.0f}"


def _limits(result: Report) -> list[str]:
    """Of the fastest of ours: model FLOP utilisation, share of the roofline."""
    limits = result["device_limits"]
    if limits is None:
        return ["", ""]
    ours = [times for key, times in result["seconds_per_step"].items() if key != "plain"]
    fastest_s = min(map(statistics.median, ours))
    utilisation = limits["flops_per_step"] / fastest_s / limits["matmul_flops_per_s"]
    return [f"{utilisation:.0%}", f"{limits['least_s_per_step'] / fastest_s:.0%}"]


def products(reports: list[Report]) -> str:
    """Return, by Amdahl's law, how many times as fast as plain a model can be at most."""
    lines = [
        "| model | step | type | plain's time in products | hence at most | in functions, too"
        " | hence at most | ours, eager | compiled |",
        "| --- | --- | --- " + "| ---: " * 6 + "|",
    ]
    for report in reports:
        lines += [
            _bound(result, type_of(report["settings"]))
            for result in report["results"]
            if result["shares_of_time"]
        ]
    return "\n".join(lines)


def _bound(result: Report, numbers: str) -> str:
    shares, seconds = result["shares_of_time"]["plain"], result["seconds_per_step"]
    compiled = [_ratio(seconds, key) for key in ("whole", "blocks") if key in seconds]
    cells = [result["model"], result["mode"], numbers]
    for share in (shares["products"], shares["products"] + shares["functions"]):
        cells += [f"{share:.0%}", f"{1 / share:.2f}x"]
    cells += [_ratio(seconds, "ours"), max(compiled, key=lambda x: float(x[:-1]), default="")]
    return f"| {' | '.join(cells)} |"


def malloc(reports: list[Report]) -> str:
    """Return a row for every step that was measured with both allocators."""
    lines = [
        "| model | step | batch | plain [images/s] | with memory kept | ours [images/s]"
        " | with memory kept | kept between steps [MB] | a step of plain takes [MB] |",
        "| --- | --- " + "| ---: " * 7 + "|",
    ]
    kept = {_case(report, result): result for report in reports for result in report["results"]
            if report["settings"].get("malloc") == "keep"}  # fmt: skip
    for report in reports:
        for before in report["results"]:
            case = _case(report, before)
            if report["settings"].get("malloc") != "default" or case not in kept:
                continue
            after = kept[case]
            cells = [before["model"], before["mode"], str(before["batch_size"])]
            for variant in ("plain", "ours"):
                slow, fast = (
                    each["batch_size"] / statistics.median(each["seconds_per_step"][variant])
                    for each in (before, after)
                )
                cells += [f"{slow:.3g}", f"{fast:.3g} ({fast / slow:.2f}x)"]
            cells += [_whole(after["kept_bytes"], 1e6), _whole(after["peak_bytes"]["plain"], 1e6)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _case(report: Report, result: Report) -> tuple[object, ...]:
    return (result["model"], result["mode"], result["batch_size"], type_of(report["settings"]))


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")


if __name__ == "__main__":
    main()
