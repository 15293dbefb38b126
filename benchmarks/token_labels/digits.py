"""Token labels from end to end on the digits: a small annotator, its maps, and three students.

    python -m benchmarks.token_labels.digits runs/token_labels \
        --output benchmarks/results/token_labels_digits.json

runs the commands that a user types, in FOLDER; what is there already goes on or is complete.
Results are written after each student.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from pipeline.formats.open import open_source
from pipeline.formats.token_label_file import TokenLabelFile
from pipeline.storage.files import write_atomically

ROOT = Path(__file__).parents[2]
STUDENT = Path(__file__).with_name("student.yaml")
ANNOTATOR_EPOCHS = 12
"""Of the quickstart's 25, so that the annotator errs now and then."""
STUDENTS = {
    "token labels, MixToken": ("token_labels.file=",),
    "token labels": ("token_labels.file=", "token_labels.mix_token=false"),
    "plain labels": (),
}
"""What each student's recipe says beside `student.yaml`; the file's place is added."""


def main(argv: list[str] | None = None) -> int:
    """Run all of it and write the raw results; returns 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for data, runs and maps")
    parser.add_argument("--output", type=Path, required=True, metavar="JSON")
    arguments = parser.parse_args(argv)
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    maps = prepare(folder)
    report: dict[str, Any] = {
        "about": machine("torch", "deepspeed", "timm"),
        "annotator": {
            "epochs": ANNOTATOR_EPOCHS,
            "evaluations": evaluations(folder / "runs" / "annotator"),
        },
        "maps": judge(maps, folder / "shards" / "digits" / "train"),
        "students": {},
    }
    for number, (name, overrides) in enumerate(STUDENTS.items()):
        filled = [f"{text}{maps}" if text.endswith("=") else text for text in overrides]
        report["students"][name] = train(folder, STUDENT, f"student_{number}", *filled)
        write_atomically(arguments.output, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def prepare(folder: Path) -> Path:
    """Make the digits, train the annotator and have it label them; returns the file of maps."""
    maps = folder / "train.token_labels"
    run(folder, "tools/make_digits.py", "data/digits")
    run(folder, "tools/make_shards.py", "data/digits")
    quickstart = ROOT / "configs" / "quickstart.yaml"
    train(folder, quickstart, "annotator", f"schedule.epochs={ANNOTATOR_EPOCHS}")
    if not maps.exists():
        what = ("runs/annotator", "--data", "shards/digits", "--output", maps, "--device", "cpu")
        run(folder, "tools/make_token_labels.py", *what)
    return maps


def train(folder: Path, recipe: Path, name: str, *overrides: str) -> list[dict[str, object]]:
    """Train by `recipe`; returns the run's evaluations."""
    run(folder, "launch.py", "--config", recipe, f"run.name={name}", *overrides)
    return evaluations(folder / "runs" / name)


def run(folder: Path, program: str, *arguments: object) -> None:
    """Run a program of ours in `folder`."""
    command = [sys.executable, str(ROOT / program), *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True)


def evaluations(run_folder: Path) -> list[dict[str, object]]:
    """What a run has measured on the validation digits, in order."""
    lines = (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "eval"]


def judge(path: Path, split: Path) -> dict[str, object]:
    """How often the maps are right, by place, and by the mean of a map's logits."""
    file, labels = TokenLabelFile(path), np.asarray(open_source(split).labels)
    records = file.read(np.arange(len(labels)))
    right = records["classes"][:, 0] == labels[:, None, None]
    means = np.zeros((len(labels), len(file.header.classes)))
    for image, (classes, logits) in enumerate(
        zip(records["classes"], records["logits"], strict=True)
    ):
        np.add.at(means[image], classes.ravel(), logits.ravel().astype(np.float64))
    return {
        "grid": file.header.grid,
        "images": len(labels),
        "places": int(right.size),
        "places_right": int(right.sum()),
        "images_right": int((means.argmax(axis=1) == labels).sum()),
    }


if __name__ == "__main__":
    raise SystemExit(main())
