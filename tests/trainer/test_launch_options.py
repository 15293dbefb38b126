"""Fine-tuning and early ends, as users start them: three runs, two of them from the first one."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

import models  # noqa: F401  # registers dynamixer_nano
from models.build import build_model
from tests.support.forks import ROOT, Forks
from tools import make_digits
from trainer.initial_weights import load_weights

RECIPE = """
model: {name: dynamixer_nano}
data: {crop: {scale: [0.6, 1.0]}}
batch: {global_size: 20, per_gpu: 20}
optim: {lr: 1.0e-3, weight_decay: 0}
schedule: {epochs: 9, shape: constant}
run: {log_every: 1}
"""
NAME, LR, SHARE = "dynamixer_nano", 1e-3, 0.01
IMPATIENT = ("optim.lr=1e-30", "run.patience=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """80 training and 20 validation digits of ten classes, the same of seven, and a recipe."""
    root = tmp_path_factory.mktemp("options")
    make_digits.main([str(root / "ten")])
    for split, kept in (("train", 8), ("val", 2)):
        for folder in (root / "ten" / split).iterdir():
            for path in sorted(folder.iterdir())[kept:]:
                path.unlink()
    shutil.copytree(root / "ten", root / "seven")
    for split in ("train", "val"):
        for folder in sorted((root / "seven" / split).iterdir())[7:]:
            shutil.rmtree(folder)
    (root / "tiny.yaml").write_text(RECIPE)
    return root


def launch(forks: Forks, place: Path, name: str, *overrides: str) -> tuple[int, str]:
    """Train; the exit code and what the log says in words."""
    program = [sys.executable, ROOT / "launch.py", "--config", place / "tiny.yaml"]
    done = forks.run([*program, f"run.root={place / 'runs'}", f"run.name={name}", *overrides])
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    lines = (place / "runs" / name / "metrics.jsonl").read_text().splitlines()
    notes = [event["text"] for event in map(json.loads, lines) if event["event"] == "note"]
    return done.returncode, "\n".join([*notes, done.stderr])


def weights(place: Path, name: str) -> dict[str, torch.Tensor]:
    newest = max((place / "runs" / name / "checkpoints").glob("step_*"))
    return load_file(newest / "model.safetensors")


@pytest.fixture(scope="module")
def impatient(forks, place):
    """A run that cannot get better: what it learns is less than float32 can hold."""
    return launch(forks, place, "first", *IMPATIENT, f"data.root={place / 'ten'}")


def test_patience_ends_a_run_that_does_not_get_better(impatient, place):
    code, said = impatient
    assert code == 0
    assert "complete: 1 evaluations in a row without a better top-1" in said
    summary = json.loads((place / "runs" / "first" / "summary.json").read_text())
    assert (summary["epochs"], summary["steps"]) == (2, 8)


def test_a_run_that_patience_ended_stays_as_it_is(impatient, forks, place):
    log = place / "runs" / "first" / "metrics.jsonl"
    before = log.read_bytes()
    code, said = launch(forks, place, "first", *IMPATIENT, f"data.root={place / 'ten'}")
    assert (code, log.read_bytes()) == (0, before)
    assert "this run is complete after 2 epochs, and nothing is done" in said


@pytest.fixture(scope="module")
def tuned(impatient, forks, place):
    """From the run to seven classes: a frozen stem, a slow backbone, and no time."""
    return launch(
        forks,
        place,
        "tuned",
        f"data.root={place / 'seven'}",
        f"model.init_from={place / 'runs' / 'first'}",
        "model.freeze=[network.0.*]",
        f"optim.backbone_lr={SHARE}",
        "batch.global_size=14",
        "batch.per_gpu=14",
        "run.max_hours=1e-9",
    )


def test_max_hours_saves_and_stops_with_75(tuned, place):
    code, said = tuned
    assert code == 75
    assert "told to stop: saved at step 2" in said
    assert json.loads((place / "runs" / "tuned" / "exit.json").read_text())["exit_code"] == 75


def test_fine_tuning_begins_with_the_run_and_a_new_classifier(tuned, place):
    assert "first is for 10 classes, the data has 7: its classifier is drawn afresh" in tuned[1]
    torch.manual_seed(0)
    expected = build_model(NAME, num_classes=7)
    load_weights(expected, str(place / "runs" / "first"), name=NAME, key="model.init_from")
    before, after = expected.state_dict(), weights(place, "tuned")
    moved = {name: (after[name] - before[name]).abs().max().item() for name in before}
    frozen = {name: far for name, far in moved.items() if name.startswith("network.0.")}
    head = {name: far for name, far in moved.items() if name.startswith("head.")}
    body = {name: far for name, far in moved.items() if name not in frozen | head}
    assert frozen
    assert set(frozen.values()) == {0.0}
    # Adam's first steps are as long as the rate; float32 rounds weights of about 1 to 1e-7.
    assert all(0.5 * LR < far < 2.01 * LR for far in head.values()), head
    assert 0.5 * SHARE * LR < max(body.values()) < 2.01 * SHARE * LR + 2e-7


def test_weights_of_a_file_are_resampled_to_another_size(impatient, forks, place):
    newest = max((place / "runs" / "first" / "checkpoints").glob("step_*"))
    file = shutil.copy(newest / "model.safetensors", place / "weights.safetensors")
    code, said = launch(
        forks,
        place,
        "larger",
        f"data.root={place / 'ten'}",
        f"model.init_from={file}",
        "model.img_size=64",
        "optim.lr=1e-30",
        "schedule.epochs=1",
        "run.log_every=3",
        "run.max_steps=99",
    )
    assert code == 0, said
    log = map(json.loads, (place / "runs" / "larger" / "metrics.jsonl").read_text().splitlines())
    # The last of four steps, though there might have been more.
    assert [event["step"] for event in log if event["event"] == "step"] == [3, 4]
    expected = timm.create_model(NAME, num_classes=10, img_size=64, checkpoint_path=str(file))
    after = weights(place, "larger")
    for name, weight in expected.state_dict().items():
        # The rate of 1e-30 moves weights of 0.
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-25)
    assert any(after[name].shape != load_file(file)[name].shape for name in after)
