"""All models in one table: parameters, multiply-adds, and what their papers report.

    python -m benchmarks.model_zoo                 # prints the table
    python -m benchmarks.model_zoo --write docs    # and writes model_zoo.md and model_zoo.csv there
    python -m benchmarks.model_zoo --throughput benchmarks/results/zoo_throughput_cpu.json

The last form times models side by side and writes raw results, of which --write makes tables too;
interrupted, it goes on where it was.

It needs a checkout, since the transcriptions of the papers in `benchmarks/` are not in the wheel.
"""

import argparse
import csv
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import nn

import models
from benchmarks.model_cost import macs, parameters
from benchmarks.model_timing import input_size, make_ours, make_plain
from benchmarks.paper_figures import NOTES, PIXELS, REPORTED, Reported
from benchmarks.zoo_throughput import COMPARED, Plan, measure, section
from pipeline.errors import DataError
from pipeline.storage.files import write_atomically

INTRODUCTION = """\
# Models

Made by `python -m benchmarks.model_zoo --write docs`. Parameters and multiply-adds (MACs) are
counted by us, for the input size and the number of classes given. A MAC is one term of a matrix
product or a convolution in the forward pass of one image, as the paper defines the model (the FLOPs
that `torch.utils.flop_counter` counts, halved); normalisation, activations and pooling are not
counted.
The three columns on the right are **the papers'**, from their text, README or slides, and were not
reproduced here; top-1 accuracy is on ImageNet-1k unless another data set is named. Of the CNNs and
transformers that DynaMixer's slides compare with, timm has those at the end; it has no BoT-S1, no
CrossFormer, no T2T-ViT and no PVT of the first version.

![accuracy against multiply-adds and parameters, by the papers' figures](model_zoo.png)
"""


class Row(NamedTuple):
    """One model."""

    name: str
    pixels: int
    classes: int
    parameters: int
    macs: int
    reported: Reported


def main(argv: list[str] | None = None) -> int:
    """Print the table and write what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="for the Markdown and the CSV")
    parser.add_argument("--throughput", type=Path, metavar="FILE", help="for raw results, in JSON")
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="of --throughput: 32 256")
    parser.add_argument("--seconds", type=float, help="that --throughput may take: 420")
    parser.add_argument("--device", default="cpu", help="of --throughput: cpu or cuda")
    arguments = parser.parse_args(argv)
    if any(size < 1 for size in arguments.batch_sizes or ()):
        parser.error(f"--batch-sizes: expected numbers of at least 1: {arguments.batch_sizes}")
    if (arguments.batch_sizes or arguments.seconds) and not arguments.throughput:
        parser.error("--batch-sizes, --seconds: nothing is timed without --throughput; add it")
    if arguments.write and not arguments.write.is_dir():
        parser.error(f"--write: {arguments.write}: no such folder; make it first")
    if unknown := sorted(n for n in arguments.names if models.resolve(n)[0] not in zoo()):
        parser.error(f"not in the zoo: {', '.join(unknown)}; it has {', '.join(zoo())}")
    if arguments.throughput:
        plan = Plan(
            batch_sizes=arguments.batch_sizes or (32, 256),
            rounds=3,
            budget_s=420 if arguments.seconds is None else arguments.seconds,
            device=torch.device(arguments.device),
        )
        makers = {name: partial(_timed, name) for name in arguments.names or COMPARED}
        try:
            print(section(measure(makers, plan, arguments.throughput)))
        except DataError as error:
            parser.error(f"--throughput: {error}")
        return 0
    rows = [count(name) for name in arguments.names or zoo()]
    speeds = [section(json.loads(path.read_text(encoding="utf-8"))) for path in timed()]
    print(markdown(rows))
    if arguments.write:
        write_atomically(arguments.write / "model_zoo.md", markdown(rows, speeds).encode())
        write_atomically(arguments.write / "model_zoo.csv", comma_separated(rows).encode())
    return 0


def timed() -> list[Path]:
    """The committed raw results of --throughput."""
    return sorted((Path(__file__).parent / "results").glob("zoo_throughput*.json"))


def pixels(name: str) -> tuple[int, int, int]:
    """(channels, height, width) of the images that the figures are for."""
    return (3, PIXELS[name], PIXELS[name]) if name in PIXELS else input_size(name)


def zoo() -> list[str]:
    """Ours, then timm's that papers compare with."""
    return [*models.names(), *(name for name in REPORTED if name not in models.names())]


def count(name: str) -> Row:
    """Count one model, by its name or its authors', without making its weights."""
    registered, arguments = models.resolve(name)
    name = name if arguments else registered
    size = pixels(name)
    with torch.device("meta"):
        model = _make(name)
    classes = cast("int", model.num_classes)
    multiply_adds = macs(lambda: make_plain(name), size)
    reported = REPORTED.get(name, Reported())
    return Row(name, size[1], classes, parameters(model), multiply_adds, reported)


def _make(name: str) -> nn.Module:
    is_ours = models.resolve(name)[0] in models.names()
    return make_ours(name) if is_ours else make_plain(name)


def _timed(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    return _make(name), pixels(name)


def markdown(rows: Sequence[Row], speeds: Sequence[str] = ()) -> str:
    """The page: a table, its footnotes, and the tables of speeds."""
    used = [key for key in NOTES if any(key in row.reported.notes for row in rows)]
    numbers = {key: number for number, key in enumerate(used, start=1)}
    heads = ["model", "input", "classes", "parameters", "MACs [G]"]
    heads += ["paper: parameters", "paper: FLOPs", "paper: top-1 [%]", "notes"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row.name, f"{row.pixels}", f"{row.classes}", f"{row.parameters:,}"]
        cells += [f"{row.macs / 1e9:.3f}" if row.macs >= 1e9 else f"{row.macs / 1e9:.5f}"]
        cells += row.reported[:3]
        cells += [", ".join(map(str, sorted(numbers[key] for key in row.reported.notes)))]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"{numbers[key]}. {NOTES[key]}" for key in used]
    return "\n".join([INTRODUCTION, *lines, "", *notes, "", *speeds])


def comma_separated(rows: Sequence[Row]) -> str:
    """The same with plain numbers, notes in words."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([
        "model", "input_pixels", "classes", "parameters", "macs",
        "paper_parameters", "paper_flops", "paper_top1", "notes",
    ])  # fmt: skip
    for row in rows:
        notes = " ".join(NOTES[key] for key in row.reported.notes)
        writer.writerow([*row[:5], *row.reported[:3], notes])
    return text.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
