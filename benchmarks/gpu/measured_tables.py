"""One table for each experiment, from its raw results; a cell that has none says so.

Rows are the cases of a GPU, in their order, then what else the raw results have.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.gpu import (
    cifar,
    decode_parity,
    end_to_end,
    engine_state,
    kernel_speed,
    model_runs,
    pipeline_speed,
    stream_stress,
)
from benchmarks.model_timing import median_ratio

Result = dict[str, Any]
Report = dict[str, Any]
NOTHING = "not measured yet"
_NONE = "-"


def first_contact(report: Report) -> str:
    """Return how the quickstart went."""

    def cells(found: Result) -> list[str]:
        top1 = (found["summary"] or {}).get("top1")
        losses = f"{_number(found['first_loss'], 3)}, {_number(found['last_loss'], 3)}"
        speed = f"{found['images_per_s']:,.0f}"
        return [str(found["steps"]), losses, _number(top1, 2), speed, f"{found['seconds']:.0f}"]

    heads = ("steps", "first and last loss", "top-1 [%]", "images/s", "seconds")
    return _table("", heads, _rows(report, ["quickstart"], cells, len(heads)))


def fused_kernels(report: Report) -> str:
    """Return milliseconds of the variants, and what the kernel moves a second."""

    def cells(found: Result) -> list[str]:
        texts = []
        for part in ("forward", "step"):
            ms = found[f"{part}_ms"]
            others = min(ms[name] for name in kernel_speed.VARIANTS if name != "kernel")
            texts += [f"{ms[name]:.3f}" for name in kernel_speed.VARIANTS]
            texts.append(f"{others / ms['kernel']:.2f}")
            texts.append(f"{found[f'{part}_bytes'] / ms['kernel'] / 1e6:,.0f}")
        return [*texts, f"{max(found['largest_relative_differences']['kernel']):.1e}"]

    parts = [
        f"{part}: {what}"
        for part in ("forward", "step")
        for what in (*(f"{name} [ms]" for name in kernel_speed.VARIANTS), "gain", "kernel [GB/s]")
    ]
    heads = (*parts, "difference")
    return _table("shape", heads, _rows(report, kernel_speed.SHAPES, cells, len(heads)))


def models(report: Report) -> str:
    """Return images/s of each variant, and how many times as fast as plain the best of ours is."""

    def cells(found: Result) -> list[str]:
        (result,) = found["report"]["results"]
        seconds, limits = result["seconds_per_step"], result["device_limits"]
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        compiled = [medians[name] for name in ("whole", "blocks") if name in medians]
        best = min((name for name in medians if name != "plain"), key=medians.__getitem__)
        rates = [found["batch"] / s for s in (medians["plain"], medians["ours"], min(compiled))]
        shares = [_NONE, _NONE]
        if limits:
            flops = limits["flops_per_step"] / limits["matmul_flops_per_s"]
            shares = [f"{100 * s / medians[best]:.0f}" for s in (flops, limits["least_s_per_step"])]
        return [
            str(found["batch"]),
            *(f"{rate:,.0f}" for rate in rates),
            f"{median_ratio(seconds['plain'], seconds[best]):.2f}",
            *shares,
        ]

    rates = ("plain", "ours", "compiled")
    heads = ("batch", *rates, "gain", "MFU [%]", "of the roofline [%]")
    return _table("images/s", heads, _rows(report, model_runs.RUNS, cells, len(heads)))


def training_step(report: Report) -> str:
    """Return a row a case and variant."""
    heads = ("step [ms]", "to plain PyTorch", "host [ms]", "waits of the host")
    names = [*model_runs.STEPS, model_runs.SETTINGS]
    rows = []
    for name in [*names, *_others(report, names)]:
        found = report["cases"].get(name)
        if (text := _missing(found)) or found is None:
            rows.append([name, *[text] * len(heads)])
            continue
        plain = found["step_ms"].get(model_runs.PLAIN_STEP)
        for variant, ms in found["step_ms"].items():
            ratio = f"{ms / plain:.2f}" if plain else _NONE
            waits = f"{found['profiles'][variant]['waits_per_step']:.1f}"
            host = f"{found['host_ms'][variant]:.1f}"
            rows.append([f"{name}: {variant}", f"{ms:.1f}", ratio, host, waits])
    return _table("model", heads, rows)


def pipeline(report: Report) -> str:
    """Return images/s over settings."""

    def cells(found: Result) -> list[str]:
        engine = found["jpeg_engine_percent"]
        return [
            f"{found['images_per_s']:,.0f}",
            f"{found['cpu_us_per_image']:,.0f}",
            _NONE if engine is None else str(engine),
        ]

    heads = ("images/s", "CPU time an image [us]", "use of the JPEG engine [%]")
    return _table("setting", heads, _rows(report, pipeline_speed.SETTINGS, cells, len(heads)))


def end_to_end_runs(report: Report) -> str:
    """Return how fast real runs were."""

    def cells(found: Result) -> list[str]:
        return [
            f"{found['images_per_s']:,.0f}",
            f"{100 * found['data_wait_share']:.1f}",
            _number(found["mfu"] and 100 * found["mfu"], 1),
            _number(found["peak_memory_bytes"] and found["peak_memory_bytes"] / 1e9, 1),
        ]

    heads = ("images/s", "waiting for data [%]", "MFU [%]", "peak memory [GB]")
    return _table("DynaMixer-S", heads, _rows(report, end_to_end.SETTINGS, cells, len(heads)))


def decoders_agree(report: Report) -> str:
    """Return mean and largest difference of each decoder from PIL."""
    decoders = tuple(decode_parity.DECODERS)
    names = [f"{kind}, {split}" for kind in decode_parity.KINDS for split in decode_parity.SPLITS]

    def cells(found: Result) -> list[str]:
        return [_difference(found["decoders"].get(name)) for name in decoders]

    left_out = list(decode_parity.DAMAGED)
    return _table("JPEG", decoders, _rows(report, names, cells, len(decoders), left_out))


def _difference(found: Result | None) -> str:
    if found is None:
        return NOTHING
    return "refused" if "refused" in found else f"{found['mean']:.3f}, {found['max']}"


def damaged_files(report: Report) -> str:
    """Return whether each loader refuses damaged files."""
    decoders = ("PIL", *decode_parity.DECODERS)

    def cells(found: Result) -> list[str]:
        said = found["refusals"]
        return [
            NOTHING if name not in said else "refused" if said[name] else "decoded"
            for name in decoders
        ]

    names = list(decode_parity.DAMAGED)
    sound = [name for name in report["cases"] if name not in names]
    return _table("JPEG", decoders, _rows(report, names, cells, len(decoders), sound))


def streams(report: Report) -> str:
    """Return how many batches came with other pixels or labels."""

    def cells(found: Result) -> list[str]:
        return [
            str(found["batches"]),
            str(found["images_per_batch"]),
            str(len(found["mismatches"])),
        ]

    heads = ("batches", "images each", "mismatches")
    return _table("batches", heads, _rows(report, stream_stress.LOADERS, cells, len(heads)))


def engine_states(report: Report) -> str:
    """Return whether saved and restored runs repeat undisturbed ones, by stage."""

    def cells(found: Result) -> list[str]:
        return [_stages(found[key]) for key in ("resumed_equals_whole", "same_state")]

    heads = ("losses and norms are repeated", "state is the same")
    return _table("precision", heads, _rows(report, engine_state.RUNS, cells, len(heads)))


def _stages(found: dict[str, bool]) -> str:
    """`{"adamw_0": True, ...}` -> "stages 0, 1; not 2"."""
    by_outcome = {
        outcome: [key.rpartition("_")[2] for key, value in found.items() if value is outcome]
        for outcome in (True, False)
    }
    good, bad = (", ".join(by_outcome[outcome]) for outcome in (True, False))
    return "; ".join(filter(None, [good and f"stages {good}", bad and f"not {bad}"]))


def cifar_runs(report: Report) -> str:
    """Return top-1 beside the papers'."""

    def cells(found: Result) -> list[str]:
        summary = found["summary"]
        return [_number(summary and summary["top1"], 2)]

    rows = _rows(report, cifar.PAPER_TOP1, cells, 1)
    papers = {name: f"{value:.2f}" for name, value in cifar.PAPER_TOP1.items()}
    whole = [[row[0], papers.get(row[0], _NONE), *row[1:]] for row in rows]
    return _table("model", ("paper's top-1 [%]", "top-1 [%]"), whole)


def _rows(
    report: Report,
    names: Iterable[str],
    cells: Callable[[Result], list[str]],
    columns: int,
    left_out: Sequence[str] = (),
) -> list[list[str]]:
    """Return the rows of cases: their names, then their cells."""
    rows, names = [], list(names)
    for name in [*names, *(other for other in _others(report, names) if other not in left_out)]:
        found = report["cases"].get(name)
        missing = _missing(found)
        rows.append([name, *([missing] * columns if missing or found is None else cells(found))])
    return rows


def _others(report: Report, names: Sequence[str]) -> list[str]:
    return [name for name in report["cases"] if name not in names]


def _missing(found: Result | None) -> str:
    """Return why a case has no figures; empty if it has."""
    if found is None:
        return NOTHING
    return "failed" if "failed" in found else "not available" if "unavailable" in found else ""


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _table(first: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join([first, *heads])} |", f"| --- |{' ---: |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
