# PYTHON_ARGCOMPLETE_OK
"""Draw the loss, accuracy, learning rate and throughput of a run, or of several in one picture.

    python tools/plot_run.py runs/quickstart                          # runs/quickstart/curves.png
    python tools/plot_run.py runs/a runs/b --output comparison.png

The loss is smoothed, with what was measured pale beneath it. Bars at the accuracy are its standard
deviation, were other images drawn for validation.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline import command_line
from pipeline.errors import DataError
from tools.cli import exits
from tools.cli.output_files import add_force_option, check_output, write_file
from trainer.record.log_reader import read_log

if TYPE_CHECKING:  # matplotlib takes long to import, and mistakes are told before
    from matplotlib.axes import Axes

Row = dict[str, float]
"""An event; what is drawn of it are numbers."""
_PARTS = 50
"""A smoothed value is the mean over about this part of the run."""


def main(argv: list[str] | None = None) -> int:
    """Write the picture; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="picture to write; default: RUN/curves.png"
    )
    add_force_option(parser)
    return exits.told(partial(_work, command_line.parse(parser, argv)))


def _work(arguments: argparse.Namespace) -> int:
    if len(arguments.runs) > 1 and arguments.output is None:
        raise DataError("--output: name the picture, where it shows several runs")
    events = {run.name: _drawable(run) for run in arguments.runs}
    output = arguments.output or arguments.runs[0] / "curves.png"
    is_named = arguments.output is not None  # its own picture is drawn again and again
    check_output(output, suffixes=(".png", ".svg", ".pdf"), force=arguments.force or not is_named)
    write_file(output, lambda path: draw(events, path))
    print(f"curves: {output}")
    return exits.COMPLETE


def _drawable(run: Path) -> list[Row]:
    """The events of a run that has something to draw.

    Raises:
        DataError: if there is no run, or no step in its log.
    """
    rows = read_log(run)
    if not any(row["event"] == "step" for row in rows):
        raise DataError(f"{run}: no step is logged yet; wait for the first (run.log_every)")
    return cast("list[Row]", rows)


def draw(runs: dict[str, list[Row]], output: Path) -> None:
    """Draw the events of runs, by their names, in the order of `metrics.jsonl`, as a picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    figure.suptitle(", ".join(runs))
    for number, (name, rows) in enumerate(runs.items()):
        steps = [row for row in rows if row["event"] == "step"]
        color, label = f"C{number}", name if len(runs) > 1 else ""
        _line(axes[0, 0], steps, "loss", color, smooth=True)
        _accuracy(axes[0, 1], [row for row in rows if row["event"] == "eval"], color, label)
        _line(axes[1, 0], steps, "lr", color)
        _line(axes[1, 1], steps, "images_per_s", color, smooth=True)
    titles = ("training loss", "top-1, %", "learning rate", "training images / s")
    for axis, title in zip(axes.flat, titles, strict=True):
        axis.set(xlabel="optimizer step", ylabel=title)
        axis.grid(alpha=0.3)
    axes[1, 1].set_ylim(bottom=0)
    if axes[0, 1].get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2)
    else:
        axes[0, 1].text(0.5, 0.5, "not evaluated yet", transform=axes[0, 1].transAxes, ha="center")
    figure.savefig(output, dpi=110)
    plt.close(figure)


def smoothed(values: Sequence[float]) -> list[float]:
    """Means over a window around each value, which is cut at the ends."""
    half = len(values) // (2 * _PARTS)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _line(axis: "Axes", steps: list[Row], key: str, color: str, *, smooth: bool = False) -> None:
    shown = [row for row in steps if row[key] is not None]
    x, y = [row["step"] for row in shown], [row[key] for row in shown]
    if smooth:
        axis.plot(x, y, color=color, alpha=0.25, linewidth=1)
    axis.plot(x, smoothed(y) if smooth else y, color=color)


def _accuracy(axis: "Axes", evaluations: list[Row], color: str, run: str) -> None:
    for is_ema, weights, style in ((False, "weights", "--"), (True, "EMA weights", "-")):
        rows = [row for row in evaluations if row["ema"] == is_ema]
        if not rows:
            continue
        best = max(row["top1"] for row in rows)
        x, y = [row["step"] for row in rows], [row["top1"] for row in rows]
        bars = [(row["top1"] * (100 - row["top1"]) / row["count"]) ** 0.5 for row in rows]
        label = f"{run + ', ' if run else ''}{weights}: best {best:.2f} %, last {y[-1]:.2f} %"
        axis.errorbar(x, y, bars, marker=".", linestyle=style, color=color, label=label, capsize=2)


if __name__ == "__main__":
    raise SystemExit(main())
