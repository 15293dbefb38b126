"""A tour of five minutes on a CPU: from pictures to a report, a step at a time.

    python docs/tour.py                    # into tour/, which must not exist yet
    python docs/tour.py elsewhere --epochs 2

Each step says what it does and why, shows the command that does it, and runs that. Training runs in
a process of its own, which is killed on the way to show that nothing is lost. Exit codes: 0 all
steps are done; 2 the folder exists; else that of the command that failed, or 1.
"""

import argparse
import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 10
"""Few: the README's quickstart trains 25, to 98 %."""
_SAVED_EVERY = 10
_POLL_S = 0.05

_TRAIN = (
    "python launch.py --config configs/quickstart.yaml run.root={folder}/runs run.name=digits"
    " data.root={folder}/shards data.loader=auto schedule.epochs={epochs}"
    f" schedule.warmup_epochs=1 run.log_every=2 run.save_every_steps={_SAVED_EVERY}"
)


class Step(NamedTuple):
    """One stop of the tour; commands have `{folder}` and `{epochs}` in them."""

    title: str
    text: str
    commands: tuple[str, ...]
    is_killed: bool = False
    """Whether its command is killed when it has trained a little beyond a checkpoint."""


STEPS = (
    Step(
        "Pictures",
        "Training starts from a folder with train/ and val/, and in each a folder for each class."
        " Here these are the 1,797 handwritten digits that come with scikit-learn, as JPEGs. Your"
        " own pictures go into folders of the same kind.",
        ("python tools/make_digits.py {folder}/pictures",),
    ),
    Step(
        "Shards",
        "A million small files are slow to read from most disks. make_shards writes them one after"
        " the other into a few large ones, with an index and checksums. It looks at every picture"
        " and names those that are damaged. The pictures stay as they are.",
        ("python tools/make_shards.py {folder}/pictures --output {folder}/shards",),
    ),
    Step(
        "What the model will see",
        "A recipe is a YAML file with everything that a result depends on; any value can be changed"
        " on the command line. Before training it is worth a look whether the augmented pictures"
        " still show what their labels say: open {folder}/batch.png.",
        (
            "python tools/preview_batches.py --config configs/quickstart.yaml"
            " --output {folder}/batch.png data.root={folder}/shards data.loader=auto",
        ),
    ),
    Step(
        "Training, killed",
        "A DynaMixer of half a million parameters is trained. A moment after a checkpoint this"
        " script kills the process with SIGKILL, as a power cut would: it can save nothing more.",
        (_TRAIN,),
        is_killed=True,
    ),
    Step(
        "The same command again",
        "It goes on from the last checkpoint. The order of the pictures and every random draw are"
        " functions of seed, epoch and picture, so the steps that were lost come out the same, bit"
        " for bit. Their losses are compared below.",
        (_TRAIN,),
    ),
    Step(
        "How good is it?",
        "validate counts every validation picture once. Which classes are hard, and what they are"
        " taken for, stands in two CSV files.",
        (
            "python tools/validate.py {folder}/runs/digits --data {folder}/shards"
            " --per-class {folder}/classes.csv --confusion {folder}/confusion.csv",
        ),
    ),
    Step(
        "What is in this picture?",
        "predict takes pictures, folders, patterns of names and URLs. The folder above each picture"
        " is the right answer.",
        (
            "python tools/predict.py {folder}/runs/digits --top 3"
            " '{folder}/pictures/val/*/digit_00[0-3]?.jpg'",
        ),
    ),
    Step(
        "For other programs",
        "The weights leave as a folder with a model card. After `import models`,"
        ' `timm.create_model("local-dir:{folder}/published", pretrained=True)` loads it. Other'
        " formats are a .safetensors, ONNX and torch.export.",
        (
            "python tools/export_weights.py {folder}/runs/digits --format hub"
            " --output {folder}/published",
        ),
    ),
    Step(
        "The report",
        "The run's folder has kept everything: recipe, losses, speed, checkpoints. One command"
        " draws the curves, another sums up how it went and what to do next.",
        (
            "python tools/plot_run.py {folder}/runs/digits",
            "python tools/report_run.py {folder}/runs/digits",
        ),
    ),
)


def main(argv: list[str] | None = None) -> int:
    """Go through all steps; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("tour"), help="to be made")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    arguments = parser.parse_args(argv)
    folder = arguments.folder.resolve()
    if folder.exists():
        print(f"error: {folder}: exists already; name another folder", file=sys.stderr)
        return 2
    os.chdir(ROOT)  # the commands that are shown are those of somebody who is there
    folder = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    lost: dict[int, float] = {}
    for number, step in enumerate(STEPS, start=1):
        print(f"\n{'=' * 80}\n{number}. {step.title}\n\n{_filled(step.text, folder)}\n")
        for command in step.commands:
            words = shlex.split(command.format(folder=folder, epochs=arguments.epochs))
            print(f"$ {shlex.join(words)}\n", flush=True)
            if step.is_killed:
                lost = _train_and_kill(words, folder / "runs" / "digits" / "metrics.jsonl")
            elif code := _run(words):
                return code
            print()
        if lost and not step.is_killed:
            if not _came_again(lost, folder / "runs" / "digits" / "metrics.jsonl"):
                return 1
            lost = {}
    print(f"\nEverything lies in {folder}/. Next: README.md, with your own pictures.")
    return 0


def _filled(text: str, folder: Path) -> str:
    return textwrap.fill(text.format(folder=folder), 80, break_on_hyphens=False)


def _run(words: list[str]) -> int:
    """Run a command: a tool in this process, which spares a start of seconds, training in its own.

    Returns its exit code.
    """
    script = Path(words[1])
    if script.parent == Path("tools"):
        return importlib.import_module(f"tools.{script.stem}").main(words[2:])
    return subprocess.run([sys.executable, *words[1:]], check=False).returncode


def _train_and_kill(words: list[str], log: Path) -> dict[int, float]:
    """Start training and kill it; returns the loss of each step that is in no checkpoint."""
    with subprocess.Popen([sys.executable, *words[1:]]) as process:
        while process.poll() is None:
            losses, saved = _losses(log)
            if saved and max(losses, default=0) >= saved + 4:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(_POLL_S)
    losses, saved = _losses(log)
    lost = {step: loss for step, loss in losses.items() if step > saved}
    print(f"\nKilled: the last checkpoint is of step {saved}, and steps to {max(lost)} are lost.")
    return lost


def _losses(log: Path) -> tuple[dict[int, float], int]:
    """The loss of each step in a run's log, and the step of the last checkpoint, 0 if none."""
    losses, saved = {}, 0
    # The last line may be half written.
    for line in log.read_text().splitlines(keepends=True) if log.exists() else ():
        event = json.loads(line) if line.endswith("\n") else {}
        if event.get("event") == "step":
            losses[event["step"]] = event["loss"]
        elif event.get("event") == "save":
            saved = event["step"]
    return losses, saved


def _came_again(lost: dict[int, float], log: Path) -> bool:
    """Show the losses before and after; returns whether they are the same."""
    again, _ = _losses(log)
    print("\n  step    loss before         loss again")
    for step, loss in lost.items():
        print(f"  {step:4}    {loss:<18}  {again.get(step)}")
    is_same = all(again.get(step) == loss for step, loss in lost.items())
    print("The same, bit for bit." if is_same else "error: they differ, which must not be")
    return is_same


if __name__ == "__main__":
    sys.exit(main())
