# PYTHON_ARGCOMPLETE_OK
"""Show how far a run is, here or on another machine that shares the disk: it reads the run's files.

    python tools/watch_run.py runs/dynamixer_s            # until the run is complete, or Ctrl-C
    python tools/watch_run.py runs/dynamixer_s --once     # the state now, in a line

On a terminal the line is drawn anew; in a file a new one is written when there are new steps.
"""

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from pipeline import command_line
from pipeline.errors import DataError
from pipeline.words import duration
from tools.cli import exits
from tools.cli.numbers import positive
from tools.report_run import Row, read_state


def main(argv: list[str] | None = None) -> int:
    """Show the run until it is complete; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--once", action="store_true", help="show the state now, and leave")
    parser.add_argument(
        "--every", type=positive, default=5, metavar="SECONDS", help="between two looks; default: 5"
    )
    arguments = command_line.parse(parser, argv)
    try:
        _watch(arguments.run, every_s=arguments.every, once=arguments.once)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return exits.BAD_INPUT
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    return exits.COMPLETE


def _watch(run: Path, *, every_s: int, once: bool) -> None:
    state, shown = read_state(run), ""
    console = Console(highlight=False, soft_wrap=True)
    if once or not console.is_terminal:
        while True:
            if (text := in_words(run, state)) != shown:
                shown = text
                console.print(text)
                sys.stdout.flush()
            if once or state["state"] == "complete":
                return
            time.sleep(every_s)
            state = read_state(run)
    with Live(in_words(run, state), console=console) as live:
        while state["state"] != "complete":
            time.sleep(every_s)
            state = read_state(run)
            live.update(in_words(run, state))


def in_words(run: Path, state: Row) -> str:
    """The state that `read_state` gives, in a line."""
    score = ""
    if "top1" in state:
        score = f", top-1 {state['top1']:.2f} %"
    if state["state"] == "complete":
        return f"{run.name}: complete{score}, {state['steps']:,} steps"
    if not state["steps"]:
        return f"{run.name}: nothing is logged yet"
    loss = "not finite" if state["loss"] is None else f"{state['loss']:.4f}"
    total = f"/{state['total_steps']:,}" if "total_steps" in state else ""
    return (
        f"{run.name}: step {state['steps']:,}{total}, epoch {state['epoch']}, loss {loss}{score},"
        f" {state['images_per_s']:,.0f} images/s, data wait {state['data_wait_s']:.1f} s"
        f"{_time_left(state)}"
    )


def _time_left(state: Row) -> str:
    """How long the rest takes at the speed of the last steps, evaluations apart."""
    if "total_steps" not in state or not state["images_per_s"]:
        return ""
    steps = int(state["total_steps"] or 0) - int(state["steps"] or 0)
    seconds = steps * int(state["batch"] or 0) / float(state["images_per_s"])
    return f", {duration(seconds)} left"


if __name__ == "__main__":
    raise SystemExit(main())
