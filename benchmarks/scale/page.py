"""The table of docs/scale.md, from the raw results of `ranks`.

    python -m benchmarks.scale.page

writes it between the marks in the page, `<!-- NAME -->` and `<!-- end -->`. A test holds the page
to the raw results.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.marked_page import filled

_ROOT = Path(__file__).parents[2]
RESULTS = _ROOT / "benchmarks" / "results" / "scale_ranks.json"
PAGE = _ROOT / "docs" / "scale.md"

Report = dict[str, Any]


def page(text: str, report: Report) -> str:
    """Return the page's text with the table of `report` in its place."""
    return filled(text, {"ranks": f"{machine_sentence(report)}\n\n{ranks_table(report)}"})


def machine_sentence(report: Report) -> str:
    """Return what was simulated, and on what."""
    about = report["machine"]
    return (
        f"{report['images']:,} images, {report['ranks']:,} ranks of {report['per_gpu']} images, a"
        f" global batch of {report['global_size']:,}. One of {about['cores']} cores of"
        f" {about['cpu']}, shared with others; {about['date']}, Python {about['python']}, NumPy"
        f" {about['numpy']}."
    )


def ranks_table(report: Report) -> str:
    """Return the table in Markdown: what was made and checked, core seconds, memory."""
    order, shares = report["order"], report["shares"]
    elastic, draws = report["elastic"], report["draws"]
    others = ", ".join(f"{ranks:,}" for ranks in elastic["ranks"])
    mega = f"{order['order_bytes'] / 1e6:.0f} MB kept, {order['peak_bytes'] / 1e6:.0f} MB at most"
    per_image = draws["all_s"] / shares["images_used"] * 1e6
    rows = [
        ("each rank: the epoch's order", f"{order['order_s']:.1f}", mega),
        (
            f"each rank: the draws of a micro-batch of {report['per_gpu']}",
            f"{draws['micro_batch_s']:.4f}",
            "",
        ),
        (
            f"all ranks: batches; each has {shares['images_of_a_rank']:,} images, none comes twice",
            f"{shares['seconds']:.0f}",
            "",
        ),
        (
            f"all ranks: all draws of the epoch, {per_image:.0f} µs an image",
            f"{draws['all_s']:.0f}",
            "",
        ),
        (
            f"on {others} ranks: the same {elastic['steps']:,} global batches, and in the last"
            f" {elastic['steps_with_draws']} the same draws",
            f"{elastic['seconds']:.0f}",
            "",
        ),
    ]
    lines = ["| | core seconds | memory |", "|---|---:|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def main() -> None:
    """Write the page."""
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    main()
