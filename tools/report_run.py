# PYTHON_ARGCOMPLETE_OK
"""Write a page about a run, or about several side by side, and say in a few lines how it went.

    python tools/report_run.py runs/quickstart                # runs/quickstart/report.html
    python tools/report_run.py runs/a runs/b runs/c           # runs/report.html, side by side
    python tools/report_run.py runs/quickstart --json         # the state, and no page

The page is one file that opens in any browser, without a network; a run writes its own after each
evaluation. It is made of the run's files alone, so the data need not be here. A run that is not
complete is told, too, as far as it is.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline import command_line
from pipeline.storage.files import write_atomically
from pipeline.words import counted
from tools.cli import exits
from tools.cli.output_files import add_force_option, add_json_option, check_output
from trainer.record.data_wait import waiting_in_words
from trainer.record.exit_file import read_exit
from trainer.record.log_reader import read_log
from trainer.record.report.files import Tree, read_run
from trainer.record.report.page import page
from trainer.record.run_folder import next_commands


def main(argv: list[str] | None = None) -> int:
    """Write the page and print the state; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="page; default: report.html in the run, or beside several",
    )
    add_json_option(parser)
    add_force_option(parser)
    arguments = command_line.parse(parser, argv)
    if arguments.json and arguments.output:
        parser.error("--output has no effect with --json, which writes no page")
    return exits.told(partial(_work, arguments))


def _work(arguments: argparse.Namespace) -> int:
    runs: list[Path] = arguments.runs
    states = [read_state(run) for run in runs]
    if arguments.json:
        print("\n".join(json.dumps(state) for state in states))
        return exits.COMPLETE
    output: Path = arguments.output or _usual_place(runs)
    is_named = arguments.output is not None  # their own page is written again and again
    check_output(output, suffixes=(".html",), force=arguments.force or not is_named)
    write_page(runs, output)  # first, since who reads the rest may leave early
    console = Console(highlight=False)
    for run, state in zip(runs, states, strict=True):
        console.print(_table(run, state))
    if len(runs) == 1:
        (run,), (state,) = runs, states
        if state["state"] == "complete":
            sentence = waiting_in_words(float(state["data_wait_fraction"] or 0))
            console.print(sentence[0].upper() + sentence[1:] + ".", soft_wrap=True)
        console.print("\n".join(_next(run, state)), soft_wrap=True)
    console.print(f"report: {output}", soft_wrap=True, markup=False)
    return exits.COMPLETE


def write_page(runs: Sequence[Path], output: Path | None = None) -> Path:
    """Write the page of a run, or of several side by side; returns its path.

    Raises:
        DataError: if a file of a run is damaged.
        OSError: if the page cannot be written.
    """
    names = [run.resolve().name for run in runs]
    said = names if len(set(names)) == len(names) else [str(run) for run in runs]
    path = output or _usual_place(runs)
    text = page([read_run(run, name=name) for run, name in zip(runs, said, strict=True)])
    write_atomically(path, text.encode())
    return path


def _usual_place(runs: Sequence[Path]) -> Path:
    folder = runs[0] if len(runs) == 1 else runs[0].resolve().parent
    return folder / "report.html"


def read_state(run: Path) -> Tree:
    """What the files of a run say of it: `summary.json`, or else the last events of its log.

    Raises:
        DataError: if there is no run.
    """
    events = [dict(event) for event in read_log(run)]
    summary = run / "summary.json"
    if summary.exists():
        return {"state": "complete", **json.loads(summary.read_text(encoding="utf-8"))}
    state: Tree = {"state": "not complete", "steps": 0}
    for event in events:
        if event["event"] == "step":
            names = ("epoch", "loss", "images_per_s", "data_wait_s")
            state |= {"steps": event["step"], **{name: event[name] for name in names}}
        elif event["event"] == "eval":
            state |= {name: event[name] for name in ("top1", "top5", "count")}
        elif event["event"] == "start":
            state |= {name: event[name] for name in ("total_steps", "batch")}
        elif event["event"] == "save":
            state |= {"saved_step": event["step"]}
    return state


def _table(run: Path, state: Tree) -> Table:
    table = Table(title=f"{run.name}: {state['state']}", show_header=False)
    if "top1" in state:
        table.add_row(
            "top-1", f"{state['top1']:.2f} % of {counted(int(state['count'] or 0), 'image')}"
        )
    if state["state"] == "complete":
        table.add_row("training speed", f"{state['images_per_s']:,.0f} images/s")
        waiting = float(state["data_wait_fraction"] or 0)
        table.add_row("waiting for data", f"{100 * waiting:.1f} % of training")
        table.add_row("time", f"{state['wall_s']:,.0f} s for {state['epochs']} epochs")
    elif state["steps"]:
        loss = "not finite" if state["loss"] is None else f"{state['loss']:.4f}"
        table.add_row("done", f"{state['steps']:,} steps, in epoch {state['epoch']} (from 0)")
        table.add_row("loss", loss)
        table.add_row("training speed", f"{state['images_per_s']:,.0f} images/s")
    else:
        table.add_row("done", "nothing is logged yet")
    if "saved_step" in state:
        table.add_row("newest checkpoint", f"of step {state['saved_step']:,}")
    for name, what in (
        ("report.html", "all of it as a page"),
        ("batch.png", "a batch as the model sees it"),
        ("curves.png", "loss and accuracy"),
        ("metrics.jsonl", "every step and evaluation"),
        ("checkpoints", "model.safetensors and ema.safetensors load in timm"),
        ("tensorboard", f"tensorboard --logdir {run / 'tensorboard'}"),
    ):
        if (run / name).exists():
            table.add_row(str(run / name), what)
    return table


def _next(run: Path, state: Tree) -> list[str]:
    if state["state"] != "complete":
        on = f"  deepspeed launch.py --config {run / 'recipe.yaml'}"
        if read_exit(run).get("message") == "cut short":
            on += " run.max_steps=0"
        return ["To go on:", on]
    return [
        "What comes next:",
        *(f"  {command}" for command in next_commands(run)),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
