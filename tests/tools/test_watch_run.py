"""`tools/watch_run.py`: how far a run is, from its files alone."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import watch_run
from trainer.record.exit_file import write_exit

ROOT = Path(__file__).parents[2]
START = {"event": "start", "step": 0, "total_steps": 100, "batch": 40, "num_classes": 10}
STEP = {"event": "step", "epoch": 1, "lr": 0.1, "images_per_s": 50.0, "data_wait_s": 0.25}
SCORE = {"event": "eval", "step": 10, "epoch": 0, "top1": 40.0, "top5": 80.0, "count": 7}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("model: {name: dynamixer_nano}\n")
    return folder


def log(run, *events):
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def step(number, loss=1.25):
    return {**STEP, "step": number, "loss": loss}


def test_a_look_tells_step_loss_accuracy_speed_wait_and_time_left(run, capsys):
    log(run, START, step(10), SCORE, step(25))
    assert watch_run.main([str(run), "--once"]) == 0
    assert capsys.readouterr().out == (  # 75 steps of 40 images at 50 a second
        "mine: step 25/100, epoch 1, loss 1.2500, lr 0.1, top-1 40.00 %, top-5 80.00 %,"
        " best 40.00 %, 50 images/s, data wait 2.1 %, 60 s left\n"
    )


def test_a_loss_that_was_not_finite_and_a_log_of_before_are_told(run, capsys):
    log(run, step(10, loss=None))
    assert watch_run.main([str(run), "--once"]) == 0
    out = capsys.readouterr().out
    assert "step 10, epoch 1, loss not finite, lr 0.1, 50 images/s" in out
    assert "left" not in out


def test_a_run_that_has_just_begun_is_told_as_such(run, capsys):
    assert watch_run.main([str(run), "--once"]) == 0
    assert "nothing is logged yet" in capsys.readouterr().out


def test_it_follows_a_run_to_its_end_with_a_line_for_each_change(run, capsys, monkeypatch):
    log(run, START, step(10))

    looks = iter(("same", "step", "end"))

    def goes_on(seconds):
        assert seconds == 3
        happens = next(looks)
        if happens == "step":
            log(run, START, step(10), step(25))
        elif happens == "end":
            (run / "summary.json").write_text(json.dumps({"top1": 98.5, "steps": 100}))

    monkeypatch.setattr(watch_run.time, "sleep", goes_on)
    assert watch_run.main([str(run), "--every", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "mine: step 10/100",
        "mine: step 25/100",
        "mine: complete",
    ]


def test_programs_get_an_object_a_line(run, capsys):
    log(run, START, step(10), SCORE, step(25))
    assert watch_run.main([str(run), "--json", "--once"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["step"], state["total_steps"], state["top1"]) == (25, 100, 40.0)
    assert state["seconds_left"] == 60.0
    assert state["data_wait_share"] == pytest.approx(0.25 / (15 * 40 / 50))


def test_use_of_the_machine_is_told_where_the_log_has_it(run, capsys):
    log(run, START, {**step(10), "mfu": 0.412, "peak_memory_bytes": 12_340_000_000})
    assert watch_run.main([str(run), "--once"]) == 0
    assert "data wait 3.1 %, MFU 41.2 %, memory 12.34 GB, 72 s left" in capsys.readouterr().out


def test_how_a_run_ended_is_told_until_a_process_goes_on(run, capsys):
    log(run, START, step(10))
    write_exit(run, code=75, text="stopped", rank=0)
    assert watch_run.main([str(run), "--once"]) == 0
    assert "mine: ended with 75: stopped, step 10/100" in capsys.readouterr().out


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(watch_run.time, "sleep", lambda _: pytest.fail("it waits"))


def test_it_ends_with_the_run_however_that_ended(run, capsys, no_waiting):
    log(run, START, step(10), {"event": "save", "step": 13, "epoch": 1, "path": "x"})
    write_exit(run, code=75, text="stopped", rank=0)
    assert watch_run.main([str(run)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("mine: ended with 75: stopped, step 13/100, epoch 1, ")
    assert "left" not in told
    assert watch_run.main([str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds_left"] is None


def test_a_run_that_was_stopped_before_its_first_log_line_shows_the_step_it_saved(run, capsys):
    note = {"event": "note", "step": 7, "text": "told to stop: saved at step 7"}
    log(run, START, {"event": "save", "step": 7, "epoch": 0, "path": "x"}, note)
    write_exit(run, code=75, text="stopped", rank=0)
    assert watch_run.main([str(run), "--once"]) == 0
    assert "step 7/100" in capsys.readouterr().out


def test_a_save_between_two_log_lines_changes_no_share(run, capsys):
    log(run, START, step(10), {"event": "save", "step": 24, "epoch": 1, "path": "x"}, step(25))
    assert watch_run.main([str(run), "--once"]) == 0
    assert "data wait 2.1 %" in capsys.readouterr().out


KILLED = """
import os, signal, sys
from pathlib import Path
from trainer.record.run_folder import RunFolder
from tests.support.recipes import recipe
RunFolder(Path(sys.argv[1])).open(recipe())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_where_the_process_of_the_run_was_killed(run, capsys, no_waiting):
    log(run, START, step(10))
    write_exit(run, code=75, text="of the process before", rank=0)
    subprocess.run([sys.executable, "-c", KILLED, str(run)], cwd=ROOT, check=False)
    assert watch_run.main([str(run)]) == 0
    told = capsys.readouterr().out
    assert re.match(r"mine: killed: process \d+ on \S+ is gone, and left no word, step 10", told)
    assert "left no word" in told
    assert " s left" not in told


def test_a_run_that_says_nothing_for_long_is_told_so_and_has_no_time_left(run, capsys, monkeypatch):
    log(run, START, step(10))  # a log event takes 8 s
    looks = iter((0, 59, 61))

    def passes(_seconds):
        age = next(looks, None)
        if age is None:
            raise KeyboardInterrupt
        moment = time.time() - age
        os.utime(run / "metrics.jsonl", (moment, moment))

    monkeypatch.setattr(watch_run.time, "sleep", passes)
    assert watch_run.main([str(run)]) == 0
    captured = capsys.readouterr()
    before, after = captured.out.splitlines()
    assert before.endswith("72 s left")
    assert after.startswith("mine: nothing new since 20")
    assert after.endswith("data wait 3.1 %")
    assert captured.err == "mine: not watched any more; the run itself is not touched\n"


def test_the_speed_is_that_of_the_last_steps_and_a_restart_forgets_nothing(run, capsys):
    slow = {**step(10), "images_per_s": 10.0}
    log(run, START, slow, {**START, "step": 10}, *(step(n) for n in range(20, 80, 5)))
    assert watch_run.main([str(run), "--once"]) == 0
    assert "20 s left" in capsys.readouterr().out  # 25 steps of 40 images at 50 a second


def test_a_run_that_is_not_there_is_told(run, capsys):
    assert watch_run.main([str(run.parent / "yours")]) == 2
    assert "there is no such run" in capsys.readouterr().err
