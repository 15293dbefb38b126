"""The tables of docs/gpu_speed.md, from whatever raw results are there.

    python -m benchmarks.gpu.table                                    # from the committed ones
    python -m benchmarks.gpu.table --results OUT --page MINE.md       # from what all.sh has written

writes them between the marks in the page, `<!-- NAME -->` and `<!-- end -->`; the second form makes
MINE.md of the page, and leaves that alone. A test holds the page to the committed results.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu import measured_tables
from benchmarks.gpu.measured_tables import Report
from benchmarks.marked_page import filled
from pipeline.errors import DataError
from pipeline.storage.files import write_atomically
from tools.cli import exits

COMMITTED = Path(__file__).parents[1] / "results"
RESULTS = COMMITTED / "gpu"
PAGE = COMMITTED.parents[1] / "docs" / "gpu_speed.md"
RESOURCES = COMMITTED / "kernel_resources.json"
PRECISION_BYTES = COMMITTED / "precision_bytes.json"

MEASURED: dict[str, tuple[str, Callable[[Report], str]]] = {
    "first contact": ("first_contact", measured_tables.first_contact),
    "fused kernels": ("kernel_speed", measured_tables.fused_kernels),
    "models": ("model_speed", measured_tables.models),
    "training step": ("train_step", measured_tables.training_step),
    "pipeline": ("pipeline_speed", measured_tables.pipeline),
    "real runs": ("end_to_end", measured_tables.end_to_end_runs),
    "decoders": ("decode_parity", measured_tables.decoders_agree),
    "damaged files": ("decode_parity", measured_tables.damaged_files),
    "streams": ("stream_stress", measured_tables.streams),
    "engine state": ("engine_state", measured_tables.engine_states),
    "cifar": ("cifar", measured_tables.cifar_runs),
}
"""By mark: whose raw results, and what makes a table of them."""


def tables(results: Path = RESULTS) -> dict[str, str]:
    """Return everything that the page takes from raw results, by its mark."""
    modules = sorted({module for module, _ in MEASURED.values()})
    reports = {module: read(results / f"{module}.json") for module in modules}
    resources = json.loads(RESOURCES.read_text(encoding="utf-8"))
    counted = json.loads(PRECISION_BYTES.read_text(encoding="utf-8"))
    return {
        "measured on": machines(reports),
        "compiled with": compiler_sentence(resources),
        "kernels": kernels(resources),
        "precision bytes": precision_bytes(counted),
        **{mark: _made(made, reports[module]) for mark, (module, made) in MEASURED.items()},
    }


def _made(table: Callable[[Report], str], report: Report) -> str:
    return table(report) if report["cases"] else "Not measured yet."


def read(path: Path) -> Report:
    """Return the raw results of an experiment; without cases where there are none."""
    if not path.exists():
        return {"about": None, "cases": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def page(text: str, results: Path = RESULTS) -> str:
    """Return `text` with everything in its place."""
    return filled(text, tables(results))


def machines(reports: dict[str, Report]) -> str:
    """Return on what each experiment was measured."""
    found: dict[str, list[str]] = {}
    for module, report in reports.items():
        if report["cases"]:
            found.setdefault(machine_sentence(report["about"]), []).append(module)
    if not found:
        return "Not measured yet: no figure of the tables below was taken on a GPU."
    return "\n\n".join(f"{', '.join(names)}: {text}" for text, names in found.items())


def machine_sentence(about: dict[str, Any]) -> str:
    """Return the machine, the versions and the date."""
    named = ("torch", "triton", "timm", "deepspeed", "nvidia-dali-cuda130")
    versions = ", ".join(f"{name} {about[name]}" for name in named if about.get(name))
    where = f"a CPU ({about['cpu']}) at tiny sizes, which shows that the scripts run, and no more"
    if about["device"] == "cuda":
        where = f"{about['gpu']}, driver {about['driver']}, CUDA {about['cuda']}, {about['cpu']}"
    return f"{where}; {about['cores']} cores, {versions}; {about['date']}."


def compiler_sentence(report: Report) -> str:
    """Return what compiled the kernels, and when."""
    about = report["about"]
    return (
        f"Compiled for {report['target']} by Triton {about['triton']} (torch {about['torch']}) on a"
        f" machine without a GPU, {about['date']}."
    )


def kernels(report: Report) -> str:
    """Return a row a kernel."""
    rows = [
        "| kernel | warps | registers | spills | shared memory [bytes] | matrix instructions |"
        " multiply-adds | loads |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, numbers in report["kernels"].items():
        loads = ", ".join(f"{count} {_width(kind)}" for kind, count in numbers["loads"].items())
        rows.append(
            f"| {name} | {numbers['warps']} | {numbers['registers']} |"
            f" {numbers['spill_instructions']} | {numbers['shared_bytes']:,} |"
            f" {numbers['matrix_instructions']} | {numbers['multiply_adds']} | {loads} |"
        )
    return "\n".join(rows)


def precision_bytes(report: Report) -> str:
    """Return a row a model: MB of an image, and of the weights, in each precision."""
    rows = [
        "| model | torch's autocast | ours | weights in bf16 | weights, under autocast | in bf16 |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in report["models"].items():
        images = [found[kind]["image"] for kind in ("autocast", "ours", "bfloat16")]
        weights = [found[kind]["weights"] for kind in ("ours", "bfloat16")]
        cells = " | ".join(f"{size / 1e6:,.0f}" for size in (*images, *weights))
        rows.append(f"| {name} | {cells} |")
    return "\n".join(rows)


def _width(kind: str) -> str:
    """`LDG.E.128` -> `128 bits`; without a number it is 32, or 16 for one bf16."""
    bits = kind.removeprefix("LDG.E").lstrip(".")
    return f"of {bits} bits" if bits else "of at most 32 bits"


def main(argv: list[str] | None = None) -> int:
    """Write the page; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    arguments = parser.parse_args(argv)
    return exits.told(lambda: write(arguments.results, arguments.page))


def write(results: Path, to: Path) -> int:
    """Write the page with the results of a folder.

    Raises:
        DataError: if another folder's results would come into the project's page.
    """
    if results.resolve() != RESULTS and to.resolve() == PAGE:
        raise DataError(
            f"--results {results}: the project's page shows committed results; copy them to"
            f" {RESULTS}, or name another --page"
        )
    text = page(PAGE.read_text(encoding="utf-8"), results)
    write_atomically(to, text.encode())
    return exits.COMPLETE


if __name__ == "__main__":
    raise SystemExit(main())
