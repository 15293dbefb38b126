"""Draw a run's loss, accuracy, learning rate and throughput from its `metrics.jsonl`.

python tools/plot_run.py runs/quickstart        # writes runs/quickstart/curves.png
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Row = dict[str, float]


def main(argv: list[str] | None = None) -> int:
    """Write the picture; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--output", type=Path, help="picture; by default RUN/curves.png")
    arguments = parser.parse_args(argv)
    metrics = arguments.run / "metrics.jsonl"
    if not metrics.exists():
        parser.error(f"{metrics} does not exist; give the folder of a run, such as runs/quickstart")
    output = arguments.output or arguments.run / "curves.png"
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    draw(rows, output, title=arguments.run.name)
    print(f"curves: {output}")
    return 0


def draw(rows: list[Row], output: Path, *, title: str) -> None:
    """Draw the events of a run, in the order of `metrics.jsonl`, as a PNG."""
    steps = [row for row in rows if row["event"] == "step"]
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    figure.suptitle(title)
    _line(axes[0, 0], steps, "loss", "training loss")
    _accuracy(axes[0, 1], [row for row in rows if row["event"] == "eval"])
    _line(axes[1, 0], steps, "lr", "learning rate")
    _line(axes[1, 1], steps, "images_per_s", "training images / s")
    for axis in axes.flat:
        axis.set_xlabel("optimizer step")
        axis.grid(alpha=0.3)
    figure.savefig(output, dpi=110)
    plt.close(figure)


def _line(axis: Axes, steps: list[Row], key: str, label: str) -> None:
    shown = [row for row in steps if row[key] is not None]
    axis.plot([row["step"] for row in shown], [row[key] for row in shown])
    axis.set_ylabel(label)
    axis.set_ylim(bottom=0)


def _accuracy(axis: Axes, evaluations: list[Row]) -> None:
    for is_ema, label in ((False, "weights"), (True, "EMA weights")):
        rows = [row for row in evaluations if row["ema"] == is_ema]
        if rows:
            best = max(row["top1"] for row in rows)
            x, y = [row["step"] for row in rows], [row["top1"] for row in rows]
            axis.plot(x, y, marker="o", label=f"{label} (best {best:.2f} %)")
            axis.legend()
    axis.set_ylabel("top-1, %")


if __name__ == "__main__":
    raise SystemExit(main())
