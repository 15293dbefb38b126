# PYTHON_ARGCOMPLETE_OK
"""Find out how a model trains fastest on this machine, and keep it for recipes with `run.tuned`.

    python tools/tune.py --model dynamixer_s --batch 128
    python tools/tune.py --model convmixer_768_32 --batch 64,128,256 --budget 300
    python tools/tune.py --model vip_s7 --batch 32 precision.dtype=fp32 model.img_size=192
    python tools/tune.py --model dynamixer_nano --batch 64 --no-compile --json

Times real training steps, on pixels that are none: eager and compiled, block by block and whole,
with CUDA graphs on a GPU, in channels-last and contiguous layout, with the fused kernels for GPUs
and without. Candidates take turns. What wins by 2 % or more is kept, with all times, in a file
below $MILLSTREAM_TUNE_CACHE, or below ~/.cache/millstream/tuned. Ctrl-C keeps what has been timed,
unless an earlier measurement of the same was not interrupted.

Values of a recipe that change the cost of a step count: precision.dtype (bf16 on a GPU, fp32 on a
CPU unless told otherwise), model.img_size, model.args and the like.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import json
import os
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline import command_line
from tools.cli import exits
from tools.cli.computing_options import add_device_option
from tools.cli.numbers import positive, several
from tools.cli.output_files import add_json_option
from tools.cli.progress import importing
from trainer.recipe_keys import add_overrides

if TYPE_CHECKING:
    from tools.tuning.contest import Candidate
    from tools.tuning.tuning import Tuned


def main(argv: list[str] | None = None) -> int:
    """Measure and tell; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    parser.add_argument("--model", required=True, metavar="NAME", help="as model.name of a recipe")
    parser.add_argument(
        "--batch",
        required=True,
        type=several,
        metavar="N[,N...]",
        help="images at once, as batch.per_gpu of a recipe; several are tuned one by one",
    )
    add_device_option(parser)
    parser.add_argument(
        "--budget",
        type=positive,
        default=120,
        metavar="SECONDS",
        help="of each batch, about, since compiling cannot be cut short; default: %(default)s",
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="do not try torch.compile, which takes minutes"
    )
    add_json_option(parser)
    add_overrides(parser)
    arguments = command_line.parse(parser, argv)
    return exits.told(lambda: _tell(arguments))


def _tell(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False, stderr=arguments.json)
    # As launch.py does, before torch is imported: threads that spin take each other's cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with importing():
        from tools.trained.annotate import choose_device
        from tools.tuning.training_step import usual_recipe
        from tools.tuning.tuning import prepare, tune

    device = choose_device(arguments.device)
    dtype = "fp32" if device.type == "cpu" else "bf16"
    recipes = [
        usual_recipe(arguments.model, batch=batch, dtype=dtype, overrides=arguments.overrides)
        for batch in arguments.batch
    ]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    told = []
    for recipe in recipes:
        prepare(recipe, device)
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("starting")
            found = tune(
                recipe,
                device,
                budget_s=arguments.budget,
                compiles=not arguments.no_compile,
                tell=lambda text, p=progress, t=task: p.update(t, description=text),
            )
        told.append(found)
        if not arguments.json:
            console.print(_table(found, title=f"{arguments.model}, {found.case.batch} images"))
            console.print(in_words(found), soft_wrap=True)
        if found.contest.is_cut:
            break
    if arguments.json:
        print(json.dumps([json.loads(found.path.read_text()) for found in told]))
    return exits.INTERRUPTED if told[-1].contest.is_cut else exits.COMPLETE


def _table(found: "Tuned", *, title: str) -> Table:
    table = Table("layout", "operations", "compiler", title=title)
    for name in ("first [s]", "step [ms]", "images/s", "speed"):
        table.add_column(name, justify="right")
    for candidate in found.contest.candidates:
        style = "bold" if candidate is found.contest.winner else None
        layout, kernels, compiler = candidate.choice.parts()
        how = f"{compiler}: {candidate.left_out}" if candidate.left_out else compiler
        table.add_row(layout, kernels, how, *_figures(found, candidate), style=style)
    return table


def _figures(found: "Tuned", candidate: "Candidate") -> tuple[str, ...]:
    if not candidate.seconds:
        return ()
    return (
        f"{candidate.first_step_s:.1f}",
        f"{1e3 * candidate.median_s:,.1f}",
        f"{found.images_per_s(candidate):,.0f}",
        f"{found.contest.speed(candidate):.2f}x",
    )


def in_words(found: "Tuned") -> str:
    """Return what won, and what takes it."""
    contest = found.contest
    winner, batch = contest.winner, found.case.batch
    won = f"Fastest: {winner.choice}, {contest.speed(winner):.2f}x the default"
    if winner is contest.candidates[0]:
        won = f"Fastest: the default, {winner.choice}; nothing is faster by 2 %"
    cut = "; it was interrupted, and the same command times all of them" if contest.is_cut else ""
    if not found.is_kept:
        return f"{won}{cut}.\nNot kept: {found.path} has what was found before, of all of them."
    return (
        f"{won}{cut}.\nIn {found.path}: a recipe with run.tuned true and batch.per_gpu {batch}"
        " takes it."
    )


if __name__ == "__main__":
    raise SystemExit(main())
