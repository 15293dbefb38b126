# PYTHON_ARGCOMPLETE_OK
"""Say where the time of a training run goes on this machine, and which setting to turn.

    python tools/bench_loader.py --config configs/dynamixer_s.yaml
    python tools/bench_loader.py --config R.yaml data.threads=8 --seconds 10 --output where.png
    python tools/bench_loader.py --config R.yaml --json

Measures reading, decoding, augmenting and the transfer to the GPU, each alone and all together, and
the model trained on batches that lie ready. One process on one device; the data are only read, and
nothing is trained.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline import command_line
from tools.cli import exits
from tools.cli.numbers import positive
from tools.cli.output_files import add_force_option, add_json_option, check_output, write_file
from trainer import yaml_config
from trainer.recipe import Recipe
from trainer.recipe_keys import add_config_option, add_overrides

if TYPE_CHECKING:
    from tools.speed.stages import Measured
    from tools.speed.verdict import Verdict

CORES = len(os.sched_getaffinity(0))


def main(argv: list[str] | None = None) -> int:
    """Measure and tell; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    add_config_option(parser, required=True)
    parser.add_argument(
        "--seconds", type=positive, default=5, metavar="S", help="of each measurement; default: 5"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="picture to write, .png")
    add_json_option(parser)
    add_force_option(parser)
    add_overrides(parser)
    arguments = command_line.parse(parser, argv)
    return exits.told(lambda: _tell(arguments))


def _tell(arguments: argparse.Namespace) -> int:
    output: Path | None = arguments.output
    if output is not None:
        check_output(output, suffixes=(".png",), force=arguments.force)
    recipe = yaml_config.load(Recipe, arguments.config, arguments.overrides)
    console = Console(highlight=False, stderr=arguments.json)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # As launch.py does, before torch is imported: threads that spin take each other's cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from trainer.process.world import name_accelerator

    name_accelerator()
    from tools.speed.measure import measure
    from tools.speed.picture import draw
    from tools.speed.verdict import verdict

    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting")
        measured = measure(
            recipe, arguments.seconds, lambda stage: progress.update(task, description=stage)
        )
    found = verdict(measured, cores=CORES)
    if arguments.json:
        print(json.dumps({**dataclasses.asdict(measured), "verdict": found._asdict()}))
    else:
        console.print(_table(measured))
        console.print(in_words(found), soft_wrap=True)
    if output is not None:
        title = arguments.config.stem
        write_file(output, lambda path: draw(measured, found, path, title=title))
        console.print(f"picture: {output}")
    return exits.COMPLETE


def _table(measured: "Measured") -> Table:
    title = f"loader {measured.loader}, {measured.threads} threads"
    table = Table("", "us an image", "images/s", title=title)
    for stage, cost in measured.stages.items():
        table.add_row(stage, f"{cost:,.0f}", f"{1e6 / cost:,.0f}" if cost else "nothing to do")
    for name, rate in (("loading, together", measured.together), ("the model", measured.model)):
        table.add_row(name, f"{1e6 / rate:,.0f}", f"{rate:,.0f}")
    return table


def in_words(found: "Verdict") -> str:
    """Return the verdict in a few sentences."""
    return (
        f"The bottleneck is {found.bottleneck}: expect {found.images_per_s:,.0f} images/s, with"
        f" {found.wait:.0%} of the time spent on waiting for data.\nWhat to do: {found.advice}."
    )


if __name__ == "__main__":
    raise SystemExit(main())
