"""Say where the time of a training run goes on this machine, and which setting to turn.

    python tools/bench_loader.py --config configs/dynamixer_s.yaml
    python tools/bench_loader.py --config R.yaml data.threads=8 --seconds 10 --output where.png
    python tools/bench_loader.py --config R.yaml --json

Measures reading, decoding, augmenting and the transfer to the GPU, each alone and all together, and
the model trained on batches that lie ready. One process on one device; the data are only read, and
nothing is trained. Exit codes: 0 measured; 2 the recipe or the data cannot be used; 73 the picture
exists; 74 reading or writing failed.
"""

import argparse
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.build import build_model
from pipeline.formats.open import open_split
from tools.cli import exits
from tools.cli.numbers import positive
from tools.cli.output_files import add_force_option, check_output, write_file
from tools.speed.picture import draw
from tools.speed.stages import Bench, Measured, plan_of
from tools.speed.verdict import Verdict, verdict
from trainer import yaml_config
from trainer.engine import Engine, allow_tf32, init_process_group
from trainer.input_spec import input_spec, take_input
from trainer.process.world import bootstrap
from trainer.recipe import Recipe

CORES = len(os.sched_getaffinity(0))


def main(argv: list[str] | None = None) -> int:
    """Measure and tell; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="recipe, a YAML file")
    parser.add_argument(
        "--seconds", type=positive, default=5, help="of each of the measurements (default 5)"
    )
    parser.add_argument("--output", type=Path, help="picture to write, PNG")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_force_option(parser)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    arguments = parser.parse_intermixed_args(argv)
    return exits.told(lambda: _tell(arguments))


def _tell(arguments: argparse.Namespace) -> int:
    output: Path | None = arguments.output
    if output is not None:
        check_output(output, suffixes=(".png",), force=arguments.force)
    recipe = yaml_config.load(Recipe, arguments.config, arguments.overrides)
    console = Console(highlight=False, stderr=arguments.json)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
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


def measure(recipe: Recipe, seconds: float, begins: Callable[[str], None]) -> Measured:
    """Measure a recipe on this machine; `begins` is told what comes next.

    Raises:
        ValueError: if the recipe or the data cannot be used.
    """
    source = open_split(recipe.data, "train")
    num_classes = recipe.model.num_classes or len(source.classes)
    with _alone() as device:
        allow_tf32(recipe.precision.allow_tf32)
        model = build_model(
            recipe.model.name,
            num_classes=num_classes,
            img_size=recipe.model.img_size,
            drop_path_rate=recipe.model.drop_path_rate,
            grad_checkpointing=recipe.model.grad_checkpointing,
            arguments=recipe.model.args,
        )
        take_input(model, recipe)
        bench = Bench(
            recipe=recipe,
            source=source,
            spec=input_spec(model),
            num_classes=num_classes,
            device=device,
            seconds=seconds,
        )
        return bench.run(Engine(model, recipe, plan_of(recipe)), begins)


@contextmanager
def _alone() -> Iterator[torch.device]:
    """Make a process group of this process, which the engine needs."""
    before = dict(os.environ)
    bootstrap()
    try:
        yield init_process_group()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)


def _table(measured: Measured) -> Table:
    title = f"loader {measured.loader}, {measured.threads} threads"
    table = Table("", "us an image", "images/s", title=title)
    for stage, cost in measured.stages.items():
        table.add_row(stage, f"{cost:,.0f}", f"{1e6 / cost:,.0f}" if cost else "nothing to do")
    for name, rate in (("loading, together", measured.together), ("the model", measured.model)):
        table.add_row(name, f"{1e6 / rate:,.0f}", f"{rate:,.0f}")
    return table


def in_words(found: Verdict) -> str:
    """Return the verdict in a few sentences."""
    return (
        f"The bottleneck is {found.bottleneck}: expect {found.images_per_s:,.0f} images/s, with"
        f" {found.wait:.0%} of the time spent on waiting for data.\nWhat to do: {found.advice}."
    )


if __name__ == "__main__":
    raise SystemExit(main())
