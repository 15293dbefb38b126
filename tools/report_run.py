"""Say in a few lines how a run went, where its files are, and what comes next.

python tools/report_run.py runs/quickstart
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

NEXT = """\
ImageNet, with train/ and val/ in /imagenet, works the same way:
  python tools/make_shards.py /imagenet
  deepspeed launch.py --config configs/dynamixer_l.yaml"""


def main(argv: list[str] | None = None) -> int:
    """Print the report; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    run: Path = parser.parse_args(argv).run
    path = run / "summary.json"
    if not path.exists():
        parser.error(f"{path} does not exist: the run is not complete; start it again to go on")
    summary = json.loads(path.read_text(encoding="utf-8"))
    table = Table(title=f"{run.name}: complete", show_header=False)
    table.add_row("top-1", f"{summary['top1']:.2f} % of {summary['count']} images")
    table.add_row("training speed", f"{summary['images_per_s']:,.0f} images/s")
    table.add_row("waiting for data", f"{100 * summary['data_wait_fraction']:.1f} % of training")
    table.add_row("time", f"{summary['wall_s']:.0f} s for {summary['epochs']} epochs")
    for name, what in (
        ("batch.png", "a batch as the model sees it"),
        ("curves.png", "loss and accuracy"),
        ("metrics.jsonl", "every step and evaluation"),
        ("checkpoints", "model.safetensors and ema.safetensors load in timm"),
        ("tensorboard", f"tensorboard --logdir {run / 'tensorboard'}"),
    ):
        if (run / name).exists():
            table.add_row(str(run / name), what)
    console = Console(highlight=False)
    console.print(table)
    console.print(NEXT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
