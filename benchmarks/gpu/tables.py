"""The tables of docs/gpu_speed.md, from the raw results that are there.

    python -m benchmarks.gpu.tables

writes them between the marks in the page, `<!-- NAME -->` and `<!-- end -->`. A test holds the page
to the raw results.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.marked_page import filled

RESULTS = Path(__file__).parents[1] / "results"
PAGE = RESULTS.parents[1] / "docs" / "gpu_speed.md"
RESOURCES = RESULTS / "kernel_resources.json"
PRECISION_BYTES = RESULTS / "precision_bytes.json"

Report = dict[str, Any]


def tables() -> dict[str, str]:
    """Return everything that the page takes from raw results, by its mark."""
    report = json.loads(RESOURCES.read_text(encoding="utf-8"))
    counted = json.loads(PRECISION_BYTES.read_text(encoding="utf-8"))
    return {
        "compiled with": compiler_sentence(report),
        "kernels": kernels(report),
        "precision bytes": precision_bytes(counted),
    }


def page(text: str) -> str:
    """Return `text` with everything in its place."""
    return filled(text, tables())


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


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
