# PYTHON_ARGCOMPLETE_OK
"""Show how far a run is, here or on another machine that shares the disk: it reads the run's files.

    python tools/watch_run.py runs/dynamixer_s            # until the run is complete, or Ctrl-C
    python tools/watch_run.py runs/dynamixer_s --once     # the state now, in a line
    python tools/watch_run.py runs/dynamixer_s --json     # an object a line, for other programs

On a terminal it shows what the run itself shows where it was started. Elsewhere a line is written
when there are new steps.
"""

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from pipeline import command_line
from tools.cli import exits
from tools.cli.numbers import positive
from tools.cli.output_files import add_json_option
from trainer.record.exit_file import read_exit
from trainer.record.log_reader import read_log
from trainer.sinks import display
from trainer.sinks.run_view import RunView


def main(argv: list[str] | None = None) -> int:
    """Show the run until it is complete; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--once", action="store_true", help="show the state now, and leave")
    parser.add_argument(
        "--every", type=positive, default=5, metavar="S", help="seconds between looks; default: 5"
    )
    add_json_option(parser)
    return exits.told(partial(_watch, command_line.parse(parser, argv)))


def _watch(arguments: argparse.Namespace) -> int:
    looks = _looks(arguments.run, every_s=arguments.every, once=arguments.once)
    console = Console(highlight=False, soft_wrap=True)
    if arguments.once or arguments.json or not display.can_redraw(console):
        shown = ""
        for view in looks:
            text = json.dumps(view.as_json()) if arguments.json else in_words(view)
            if text != shown:
                shown = text
                print(text, flush=True)
    else:
        seen = [next(looks)]
        with display.RunDisplay(lambda: seen[-1], console):
            for view in looks:
                seen[:] = [view]
    return exits.COMPLETE


def _looks(run: Path, *, every_s: int, once: bool) -> Iterator[RunView]:
    """The run as it is now, and again until it is complete."""
    while True:
        view = look(run)
        yield view
        if once or view.status == "complete":
            return
        time.sleep(every_s)


def look(run: Path) -> RunView:
    """The run as its files have it.

    Raises:
        DataError: if there is no run.
    """
    view = RunView(run.name, read_log(run))
    if (run / "summary.json").exists():
        view.status = "complete"
    elif ended := read_exit(run):
        view.status = f"ended with {ended['exit_code']}: {ended['message']}"
    return view


def in_words(view: RunView) -> str:
    """The state in a line."""
    if not (view.done or view.status):
        return f"{view.name}: nothing is logged yet"
    status = [view.status] if view.status else []
    parts = (*status, *view.position(), *view.learning(), *view.speed())
    return f"{view.name}: {', '.join(parts)}"


if __name__ == "__main__":
    raise SystemExit(main())
