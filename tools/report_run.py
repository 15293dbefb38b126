# PYTHON_ARGCOMPLETE_OK
"""Say in a few lines how a run went, or how far it is, where its files are, and what comes next.

    python tools/report_run.py runs/quickstart
    python tools/report_run.py runs/quickstart --json

A run that is not complete is told, too, as far as it is.
"""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline import command_line
from pipeline.errors import DataError
from pipeline.words import counted
from tools.cli import exits
from tools.cli.output_files import add_json_option
from trainer.record.data_wait import waiting_in_words
from trainer.record.run_folder import next_commands

Row = dict[str, str | int | float | None]


def main(argv: list[str] | None = None) -> int:
    """Print the report; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    add_json_option(parser)
    arguments = command_line.parse(parser, argv)
    run: Path = arguments.run
    try:
        state = read_state(run)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return exits.BAD_INPUT
    if arguments.json:
        print(json.dumps(state))
        return exits.COMPLETE
    console = Console(highlight=False)
    console.print(_table(run, state))
    if state["state"] == "complete":
        sentence = waiting_in_words(float(state["data_wait_fraction"] or 0))
        console.print(sentence[0].upper() + sentence[1:] + ".", soft_wrap=True)
    console.print("\n".join(_next(run, state)), soft_wrap=True)
    return exits.COMPLETE


def read_state(run: Path) -> Row:
    """What the files of a run say of it: `summary.json`, or else the last events of its log.

    Raises:
        DataError: if there is no run.
    """
    if not run.is_dir():
        others = [p.parent.name for p in run.parent.glob("*/recipe.yaml")]
        known = f"; {run.parent} has {', '.join(sorted(others))}" if others else ""
        raise DataError(f"{run}: there is no such run{known}")
    if not (run / "recipe.yaml").exists():
        raise DataError(f"{run}: not the folder of a run: there is no recipe.yaml in it")
    summary = run / "summary.json"
    if summary.exists():
        return {"state": "complete", **json.loads(summary.read_text(encoding="utf-8"))}
    events = _events(run / "metrics.jsonl")
    state: Row = {"state": "not complete", "steps": 0}
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


def _events(path: Path) -> list[Row]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    # A last line without its end is being written, or was torn by a kill.
    return [json.loads(line) for line in lines if line.endswith("}")]


def _table(run: Path, state: Row) -> Table:
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
        ("batch.png", "a batch as the model sees it"),
        ("curves.png", "loss and accuracy"),
        ("metrics.jsonl", "every step and evaluation"),
        ("checkpoints", "model.safetensors and ema.safetensors load in timm"),
        ("tensorboard", f"tensorboard --logdir {run / 'tensorboard'}"),
    ):
        if (run / name).exists():
            table.add_row(str(run / name), what)
    return table


def _next(run: Path, state: Row) -> list[str]:
    if state["state"] != "complete":
        return [
            "To go on:",
            f"  deepspeed launch.py --config {run / 'recipe.yaml'}",
        ]
    return [
        "What comes next:",
        *(f"  {command}" for command in next_commands(run)),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
