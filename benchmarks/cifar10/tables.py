"""The figures of docs/recipes.md and the README, from the raw results that `record` keeps.

    python -m benchmarks.cifar10.tables

writes them into both pages, between the marks `<!-- NAME -->` and `<!-- end -->`, and into the
README's row of the recipe. A test holds the pages to the raw results.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gpu.cifar import PAPER_TOP1
from benchmarks.marked_page import filled

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "cifar10_cpu"
CURVES = ROOT / "docs" / "cifar10_curves.png"
PAGE = ROOT / "docs" / "recipes.md"
README = ROOT / "README.md"
MODEL = "splitmixer_ii_256_8"
RECIPE = f"configs/cifar10/{MODEL}.yaml"
EPOCHS_OF_THE_RECIPE = 100

Report = dict[str, Any]


def read(folder: Path = RESULTS) -> Report:
    """Return the raw results."""
    log = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "machine": json.loads((folder / "machine.json").read_text(encoding="utf-8")),
        "summary": json.loads((folder / "summary.json").read_text(encoding="utf-8")),
        "recipe": yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8")),
        "events": [json.loads(line) for line in log],
    }


def page(text: str, report: Report) -> str:
    """Return `text` of docs/recipes.md with everything in its place."""
    return filled(text, {"cifar10 run": run_sentence(report), "cifar10": top1_table(report)})


def readme(text: str, report: Report) -> str:
    """Return `text` of the README with the recipe's row as it is."""
    return re.sub(rf"^\| `{re.escape(RECIPE)}` \|.*$", row(report), text, flags=re.MULTILINE)


def row(report: Report) -> str:
    """Return the README's row."""
    epochs, top1 = report["recipe"]["schedule"]["epochs"], report["summary"]["top1"]
    return (
        f"| `{RECIPE}` | {PAPER_TOP1[MODEL]:.2f} % (paper) | {top1:.2f} % after {epochs}"
        f" epochs instead of {EPOCHS_OF_THE_RECIPE}, on two CPU cores"
        f" ([raw](benchmarks/results/{RESULTS.name})) |"
    )


def run_sentence(report: Report) -> str:
    """Return what was trained, where, and how fast."""
    about, summary, recipe = report["machine"], report["summary"], report["recipe"]
    begun = sum(event["event"] == "start" for event in report["events"])
    stops = "in one go" if begun == 1 else f"stopped and gone on with {begun - 1} times"
    return (
        f"`{RECIPE}` with `schedule.epochs={recipe['schedule']['epochs']}` in place of"
        f" {EPOCHS_OF_THE_RECIPE} and `run.compile={recipe['run']['compile']}`,"
        f" {about['date']}, {stops}: {about['cores']} cores of {about['cpu']}, Python"
        f" {about['python']}, torch {about['torch']}, DeepSpeed {about['deepspeed']},"
        f" timm {about['timm']}. Training took {summary['wall_s'] / 60:.0f} minutes at"
        f" {summary['images_per_s']:.0f} images/s and waited for data"
        f" {100 * summary['data_wait_fraction']:.2f} % of the time."
    )


def top1_table(report: Report) -> str:
    """Return the accuracy after each epoch."""
    evaluations = [event for event in report["events"] if event["event"] == "eval"]
    epochs = [str(event["epoch"] + 1) for event in evaluations]
    scores = [f"{event['top1']:.2f}" for event in evaluations]
    lines = [
        f"| after epoch | {' | '.join(epochs)} |",
        f"|---|{'---:|' * len(epochs)}",
        f"| top-1 [%] of {report['summary']['count']:,} | {' | '.join(scores)} |",
    ]
    return "\n".join(lines)


def main() -> int:
    """Write the figures into both pages; returns 0."""
    report = read()
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), report), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8"), report), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
