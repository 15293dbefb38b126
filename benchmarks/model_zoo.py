"""All models in one table: parameters, multiply-adds, and what their papers report.

    python -m benchmarks.model_zoo                 # prints the table
    python -m benchmarks.model_zoo --write docs    # and writes model_zoo.md and model_zoo.csv there
    python -m benchmarks.model_zoo --throughput    # and times every model on this machine

It needs a checkout, since the transcriptions of the papers in `benchmarks/` are not in the wheel.
"""

import argparse
import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import models
from benchmarks.machine import machine
from benchmarks.model_cost import macs, parameters
from benchmarks.model_timing import input_size, make_ours, make_plain
from benchmarks.paper_figures import NOTES, REPORTED, Reported
from pipeline.storage.files import write_atomically

INTRODUCTION = """\
# Models

Made by `python -m benchmarks.model_zoo --write docs`. Parameters and multiply-adds (MACs) are
counted by us, for the input size and the number of classes given. A MAC is one term of a matrix
product or a convolution in the forward pass of one image, as the paper defines the model (the FLOPs
that `torch.utils.flop_counter` counts, halved); normalisation, activations and pooling are not
counted.
The three columns on the right are **the papers'**, from their text, README or slides, and were not
reproduced here; top-1 accuracy is on ImageNet-1k unless another data set is named.
"""


class Row(NamedTuple):
    """One model; `images_per_s` is None if it was not timed."""

    name: str
    pixels: int
    classes: int
    parameters: int
    macs: int
    reported: Reported
    images_per_s: float | None = None


def main(argv: list[str] | None = None) -> int:
    """Print the table and write what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="for the Markdown and the CSV")
    parser.add_argument("--throughput", action="store_true", help="inference, float32, this CPU")
    parser.add_argument("--batch-size", type=int, help="of --throughput, which takes 8")
    arguments = parser.parse_args(argv)
    batch_size = 8 if arguments.batch_size is None else arguments.batch_size
    if batch_size < 1:
        parser.error(f"--batch-size: expected a number of at least 1, got {batch_size}")
    if arguments.batch_size is not None and not arguments.throughput:
        parser.error("--batch-size: nothing is timed without --throughput; add it or leave it out")
    if arguments.write and not arguments.write.is_dir():
        parser.error(f"--write: {arguments.write}: no such folder; make it first")
    if unknown := sorted(n for n in arguments.names if models.resolve(n)[0] not in zoo()):
        parser.error(f"not in the zoo: {', '.join(unknown)}; it has {', '.join(zoo())}")
    rows, timed_on = [count(name) for name in arguments.names or zoo()], ""
    if arguments.throughput:
        timed_on = conditions(batch_size)
        rows = [row._replace(images_per_s=speed(row.name, batch_size)) for row in rows]
    print(markdown(rows, timed_on))
    if arguments.write:
        write_atomically(arguments.write / "model_zoo.md", markdown(rows, timed_on).encode())
        table = comma_separated(rows, timed_on)
        write_atomically(arguments.write / "model_zoo.csv", table.encode())
    return 0


def conditions(batch_size: int) -> str:
    """What the column images/s depends on, in a sentence."""
    about = machine()
    return (
        f"images/s: inference, float32, channels-last, eager, batches of {batch_size}, the best of"
        f" five, {torch.get_num_threads()} thread(s) on {about['cpu']}, torch {torch.__version__},"
        f" {about['date']}"
    )


def zoo() -> list[str]:
    """Ours, then timm's that papers compare with."""
    return [*models.names(), *(name for name in REPORTED if name not in models.names())]


def count(name: str) -> Row:
    """Count one model, by its name or its authors', without making its weights."""
    registered, arguments = models.resolve(name)
    name = name if arguments else registered
    size = input_size(name)
    with torch.device("meta"):
        model = _make(name)
    classes = model.get_submodule("head").get_parameter("weight").shape[0]
    multiply_adds = macs(lambda: make_plain(name), size)
    reported = REPORTED.get(name, Reported())
    return Row(name, size[1], classes, parameters(model), multiply_adds, reported)


def speed(name: str, batch_size: int) -> float:
    """Images per second of wall-clock time, the best of five batches."""
    model = _make(name).eval().to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, *input_size(name))
    images = images.contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(6):  # the first warms up
            started = time.perf_counter()
            model(images)
            seconds.append(time.perf_counter() - started)
    return batch_size / min(seconds[1:])


def _make(name: str) -> nn.Module:
    is_ours = models.resolve(name)[0] in models.names()
    return make_ours(name) if is_ours else make_plain(name)


def markdown(rows: Sequence[Row], timed_on: str = "") -> str:
    """The page: a table and its footnotes; `timed_on` are the conditions, if it was timed."""
    used = [key for key in NOTES if any(key in row.reported.notes for row in rows)]
    numbers = {key: number for number, key in enumerate(used, start=1)}
    heads = ["model", "input", "classes", "parameters", "MACs [G]"]
    heads += ["images/s"] if timed_on else []
    heads += ["paper: parameters", "paper: FLOPs", "paper: top-1 [%]", "notes"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row.name, f"{row.pixels}", f"{row.classes}", f"{row.parameters:,}"]
        cells += [f"{row.macs / 1e9:.3f}" if row.macs >= 1e9 else f"{row.macs / 1e9:.5f}"]
        cells += [f"{row.images_per_s or 0:.1f}"] if timed_on else []
        cells += row.reported[:3]
        cells += [", ".join(map(str, sorted(numbers[key] for key in row.reported.notes)))]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"{numbers[key]}. {NOTES[key]}" for key in used]
    return "\n".join([INTRODUCTION, *([timed_on, ""] if timed_on else []), *lines, "", *notes, ""])


def comma_separated(rows: Sequence[Row], timed_on: str = "") -> str:
    """The same with plain numbers, notes in words."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([
        "model", "input_pixels", "classes", "parameters", "macs", "images_per_s", "timed_on",
        "paper_parameters", "paper_flops", "paper_top1", "notes",
    ])  # fmt: skip
    for row in rows:
        notes = " ".join(NOTES[key] for key in row.reported.notes)
        timed = "" if row.images_per_s is None else f"{row.images_per_s:.1f}"
        writer.writerow([*row[:5], timed, timed_on, *row.reported[:3], notes])
    return text.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
