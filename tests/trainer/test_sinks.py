"""Sinks beside a run's log: what they keep is read back, and none of them can end a run."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer.sinks_worker import step
from trainer.events import Note
from trainer.process import early_checks
from trainer.run_config import RunConfig
from trainer.sinks.chosen import Guarded, open_chosen
from trainer.sinks.place import Place

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """What the sinks of a run that was killed after step 3, and went on from 2, left behind."""
    folder = tmp_path_factory.mktemp("sinks")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        environment = {
            **{k: v for k, v in os.environ.items() if k.upper() != "NO_PROXY"},
            "PYTHONPATH": str(ROOT),
            "WANDB_MODE": "offline",
            "TRACKIO_DIR": str(folder / "trackio"),
            "HTTP_PROXY": address,
            "HTTPS_PROXY": address,
        }
        command = [sys.executable, "tests/trainer/sinks_worker.py", str(folder / "mine")]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        with pytest.raises(BlockingIOError):  # nobody has asked for a connection
            proxy.accept()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), folder / "mine", done.stdout


def test_wandb_keeps_the_runs_id_over_a_resume_without_a_network(kept):
    found, folder, _ = kept
    assert found["notes"] == []
    first, second = found["wandb"]
    assert first["id"] == second["id"] == json.loads((folder / "wandb.json").read_text())["id"]
    assert first["project"] == "tests"
    assert first["config"]["optim"] == {"lr": 0.5}
    assert [row["step"] for row in first["history"]] == [1, 2, 3, 3]
    assert [row["step"] for row in second["history"]] == [3, 4, 4]
    assert second["history"][1]["train/loss"] == 0.25
    assert second["history"][2]["eval_ema/top1"] == 50.0


def test_trackio_goes_on_with_the_run_of_before(kept):
    rows = kept[0]["trackio"]
    assert len({run for run, _, _ in rows}) == 1
    assert [number for _, number, _ in rows] == [1, 2, 3, 3, 3, 4, 4]
    assert rows[5][2]["train/loss"] == 0.25
    assert rows[6][2] == {"eval_ema/top1": 50.0, "eval_ema/top5": 90.0, "eval_ema/loss": 0.5}


def test_tensorboard_hides_what_was_done_twice(kept):
    board = EventAccumulator(str(kept[1] / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in board.Scalars("eval_ema/top1")] == [4]


def test_libraries_of_sinks_leave_the_terminal_alone(kept):
    assert len(kept[2].splitlines()) == 1


def place(folder):
    return Place(folder=folder, project="p", done_steps=7, is_new=True, recipe={})


def test_a_sink_that_does_not_open_is_a_note(tmp_path):
    (tmp_path / "tensorboard").write_text("a file where its folder should be")
    notes = []
    (sink,) = open_chosen(["tensorboard"], place(tmp_path), notes.append)
    sink(step(8))
    sink.close()
    (note,) = notes
    assert note.step == 7
    assert note.text.startswith("run.sinks: tensorboard: ")
    assert note.text.endswith("; the run goes on without it")


class Breaking:
    """Takes one event, and breaks in a way of its own."""

    def __init__(self):
        self.taken = []

    def __call__(self, event):
        if self.taken:
            raise KeyError("gone")
        self.taken.append(event)

    def close(self):
        raise RuntimeError("not again")


def test_a_sink_that_breaks_while_a_run_trains_is_a_note_once():
    notes, broken = [], Breaking()
    sink = Guarded("wandb", lambda: broken, notes.append, step=0)
    for number in (1, 2, 3):
        sink(step(number))
    sink.close()
    assert broken.taken == [step(1)]
    assert notes == [Note(step=2, text="run.sinks: wandb: 'gone'; the run goes on without it")]


def test_a_sink_that_cannot_be_closed_is_told(caplog):
    Guarded("wandb", Breaking, print, step=0).close()
    assert "run.sinks: wandb: not again" in caplog.text


def test_a_library_that_is_missing_is_told_before_the_start():
    with pytest.raises(ValueError, match=r"no_such .* pip install 'millstream\[no_such\]'"):
        early_checks.check_extras(["tensorboard", "no_such"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sinks": ("wandb", "wandb")}, "each once"),
        ({"project": "mine"}, "project 'mine' has no effect without wandb or trackio"),
    ],
)
def test_sinks_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**settings)
