"""The tables of docs/shards.md, from the raw results in results/.

    python -m benchmarks.data_tables

writes them between the marks in the page, `<!-- NAME -->` and `<!-- end -->`. A test holds the page
to the raw results.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.bench_write import CODEC, LIMIT, PEER, table
from benchmarks.marked_page import filled

RESULTS_FOLDER = Path(__file__).parent / "results"
PAGE = RESULTS_FOLDER.parents[1] / "docs" / "shards.md"
RESULTS = {
    "disk": "write_disk.json",
    "memory": "write_memory.json",
    "recode": "recode_cpu.json",
    "scale": "scale_cpu.json",
}

Report = dict[str, Any]


def read(name: str) -> Report:
    """Return the raw results of one benchmark."""
    return json.loads((RESULTS_FOLDER / RESULTS[name]).read_text(encoding="utf-8"))


def tables() -> dict[str, str]:
    """Return all tables in Markdown, by what they are about."""
    disk, memory = read("disk"), read("memory")
    return {
        "machine": machine_sentence(disk["about"]),
        "pass-through, to a disk": "\n".join(table(disk["pass-through"], LIMIT, PEER)),
        "pass-through, to memory": "\n".join(table(memory["pass-through"], LIMIT, PEER)),
        "the whole program": "\n".join(table(memory["all cores"], LIMIT, PEER, "wall")),
        "re-encoding, speed": "\n".join(table(memory["re-encoding"], CODEC, "Pillow alone")),
        "re-encoding, cost": recode_table(read("recode")),
        "scale": scale_table(read("scale")),
    }


def page(text: str) -> str:
    """Return `text` with all tables in their places."""
    return filled(text, tables())


def machine_sentence(about: Report) -> str:
    """Return what the figures were measured on."""
    size = about["bytes"] / about["images"] / 1e3
    return (
        f"{about['images']:,} photographs of {size:.0f} kB on average, read from the page cache;"
        f" {about['cores']} cores of {about['cpu']}, shared with others; {about['date']}, Python"
        f" {about['python']}, webdataset {about['webdataset']}, Pillow {about['Pillow']}."
    )


def recode_table(report: Report) -> str:
    """Return what re-encoding costs, and gains."""
    lines = [
        "| | kB an image | decode + crop, x original | mean error of a value | PSNR [dB] |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in report.items():
        if name != "machine":
            psnr = f"{row['psnr_db']:.1f}" if row["psnr_db"] else "the same"
            cells = [f"{row['kilobytes']:.1f}", f"{row['speed']:.2f}", f"{row['mean_error']:.2f}"]
            lines.append(f"| {name} | {' | '.join(cells)} | {psnr} |")
    return "\n".join(lines)


def scale_table(report: Report) -> str:
    """Return time and memory of a data set of ImageNet's size."""
    listing = report["listing"]
    lines = ["| | seconds | memory at most [MB] |", "|---|---:|---:|"]
    what = f"listing {listing['images']:,} files in class folders, and planning their shards"
    seconds = listing["scan_s"] + listing["plan_s"]
    lines.append(f"| {what} | {seconds:.1f} | {listing['peak_bytes'] / 1e6:.0f} |")
    for title, key in (("shards", "conversion"), ("FFCV, `copy`", "ffcv")):
        run = report[key]
        peaks = {kind: f"{peak / 1e6:.0f}" for kind, peak in run["peak_bytes"].items()}
        parts = f"{peaks['main']} ({peaks['main_with_files']}) + {peaks['worker']} a worker"
        lines.append(f"| the whole of make_shards: {title} | {run['total_s']:.0f} | {parts} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
