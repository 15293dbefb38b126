# PYTHON_ARGCOMPLETE_OK
"""Show how far a run is, here or on another machine that shares the disk: it reads the run's files.

    python tools/watch_run.py runs/dynamixer_s            # until the run ends, or Ctrl-C
    python tools/watch_run.py runs/dynamixer_s --once     # the state now, in a line
    python tools/watch_run.py runs/dynamixer_s --json     # an object a line, for other programs

On a terminal it shows what the run itself shows where it was started. Elsewhere a line is written
when there are new steps. The run is only looked at: neither Ctrl-C here nor anything else stops it.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from pipeline import command_line
from tools.cli import exits
from tools.cli.numbers import positive
from tools.cli.output_files import add_json_option
from trainer.record.exit_file import dead_process, read_exit
from trainer.record.log_reader import read_log
from trainer.sinks import display
from trainer.sinks.run_view import RunView

_PATIENCE_S = 60.0
"""A run that says nothing for so long may be evaluating, or hang."""
_MISSED = 3
"""Log events that a run may be late by, which take longer than that in some."""


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
    try:
        _show(arguments)
    except KeyboardInterrupt:  # how one leaves it: no error
        name = arguments.run.resolve().name
        print(f"{name}: not watched any more; the run itself is not touched", file=sys.stderr)
    return exits.COMPLETE


def _show(arguments: argparse.Namespace) -> None:
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


def _looks(run: Path, *, every_s: int, once: bool) -> Iterator[RunView]:
    """The run as it is now, and again until it ends."""
    while True:
        view = look(run)
        yield view
        if once or has_ended(run):
            return
        time.sleep(every_s)


def has_ended(run: Path) -> bool:
    """Whether no process trains it, as far as its files tell."""
    return (run / "summary.json").exists() or bool(read_exit(run)) or bool(dead_process(run))


def look(run: Path) -> RunView:
    """The run as its files have it.

    Raises:
        DataError: if there is no run.
    """
    view = RunView(run.resolve().name, read_log(run))
    if (run / "summary.json").exists():
        view.status = "complete"
    elif ended := read_exit(run):
        view.status = f"ended with {ended['exit_code']}: {ended['message']}"
    elif dead := dead_process(run):
        view.status = f"killed: {dead} is gone, and left no word"
    elif since := _silent_since(run, view):
        view.status = ", ".join(filter(None, (view.status, f"nothing new since {since}")))
        view.stands = True
    view.stands = view.stands or has_ended(run)
    return view


def _silent_since(run: Path, view: RunView) -> str:
    """When the log grew last, if that is much longer ago than a log event takes; else empty."""
    log = run / "metrics.jsonl"
    if not log.exists():
        return ""
    written = log.stat().st_mtime
    patience = max(_PATIENCE_S, _MISSED * (view.seconds_an_event or 0))
    if time.time() - written < patience:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written))


def in_words(view: RunView) -> str:
    """The state in a line."""
    if not (view.done or view.status):
        return f"{view.name}: nothing is logged yet"
    status = [view.status] if view.status else []
    parts = (*status, *view.position(), *view.learning(), *view.speed())
    return f"{view.name}: {', '.join(parts)}"


if __name__ == "__main__":
    raise SystemExit(main())
