"""`benchmarks/gpu/all.sh`: killed anywhere, it loses nothing, and the same command goes on."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import run_all
from benchmarks.gpu.plan import PARTS
from benchmarks.gpu.run_all import CUT_OFF, DONE, FAILED, Progress

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu" / "all.sh"


def start(output, *arguments):
    return subprocess.Popen(
        ["sh", str(SCRIPT), str(output), "--cpu", *arguments],
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, seconds=200):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_killed_in_the_middle_it_keeps_what_it_has_and_goes_on(tmp_path):
    raw, progress = tmp_path / "decode_parity.json", tmp_path / "progress.json"
    process = start(tmp_path, "--only", "decoders agree")
    wait_for(raw.exists)
    process.kill()
    process.communicate()
    before = json.loads(raw.read_text("utf-8"))["cases"]
    assert json.loads(progress.read_text("utf-8"))["decoders agree"]["outcome"] == CUT_OFF
    process = start(tmp_path, "--only", "decoders agree")
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    after = json.loads(raw.read_text("utf-8"))["cases"]
    assert 0 < len(before) < len(after)
    assert {name: after[name] for name in before} == before  # with their times: not measured again
    ended = json.loads(progress.read_text("utf-8"))["decoders agree"]
    assert (ended["outcome"], ended["tries"]) == (DONE, 2)
    process = start(tmp_path, "--only", "decoders agree")
    assert process.communicate(timeout=60)[0] == ""  # nothing is left to do
    assert process.returncode == 0


def test_a_process_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    began = "import subprocess, sys, time; "
    began += "child = subprocess.Popen(['sleep', '100']); print(child.pid, flush=True); "
    began += "time.sleep(100)"
    outcome = run_all.run(PARTS[0], [sys.executable, "-c", began], tmp_path, seconds=1)
    assert outcome == CUT_OFF
    child = int((tmp_path / f"{PARTS[0].module}.log").read_text("utf-8"))
    wait_for(lambda: is_gone(child))


def is_gone(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # ended, and nobody has asked how


TOLD_TO_STOP = """
from benchmarks.gpu.frame.launched import launched
from tools.cli import exits
child = '''
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path({saved!r}).write_text("whole")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
pathlib.Path({began!r}).touch()
time.sleep(100)
'''
raise SystemExit(exits.told(lambda: launched("-c", child) and 0))
"""


def test_a_run_within_an_experiment_is_told_to_stop_and_waited_for(tmp_path):
    began, saved = tmp_path / "began", tmp_path / "saved"
    script = TOLD_TO_STOP.format(began=str(began), saved=str(saved))
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE)
    wait_for(began.exists)
    process.terminate()
    assert process.communicate(timeout=60)[1].startswith(b"error: interrupted")
    assert process.returncode == 75
    assert saved.read_text("utf-8") == "whole"


@pytest.mark.parametrize(("code", "outcome"), [(0, DONE), (75, CUT_OFF), (1, FAILED), (2, FAILED)])
def test_exit_codes_say_how_a_part_went(tmp_path, code, outcome):
    command = [sys.executable, "-c", f"raise SystemExit({code})"]
    assert run_all.run(PARTS[0], command, tmp_path, seconds=30) == outcome


def test_what_was_tried_least_often_comes_first(tmp_path):
    first, second, third, *_ = PARTS
    progress = Progress(tmp_path / "progress.json")
    progress.begin(first)
    progress.end(first, FAILED, said="why")
    progress.begin(third)
    progress.end(third, DONE, said="")
    again = Progress(tmp_path / "progress.json")
    assert again.left([first, second, third]) == [second, first]
    assert again.outcomes([first, second, third]) == [FAILED, CUT_OFF, DONE]


def test_too_little_time_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(run_all, "_LEAST_S", 10**6)
    assert run_all.main([str(tmp_path), "--cpu", "--only", "decoders agree"]) == 75
    assert not (tmp_path / "decode_parity.json").exists()


def test_two_do_not_measure_into_one_folder(tmp_path, monkeypatch, capsys):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys, time\n"
            f"file = open({str(tmp_path / '.lock')!r}, 'w')\n"
            "fcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(100)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    monkeypatch.setattr(run_all, "_PATIENCE_S", 0)
    assert run_all.main([str(tmp_path), "--cpu"]) == 73
    assert "another process is measuring into it" in capsys.readouterr().err
    holder.send_signal(signal.SIGKILL)
    holder.communicate()


def test_the_plan_names_cases_that_there_are_and_keeps_to_nine_minutes(tmp_path):
    for part in PARTS:
        module = importlib.import_module(f"benchmarks.gpu.{part.module}")
        assert part.limit_s <= 9 * 60
        if part.only:
            arguments = Namespace(device=torch.device("cuda"), data=None, output=tmp_path / "x")
            assert set(part.only) <= set(module.cases(arguments))


def test_what_needs_data_is_left_out_without_them(tmp_path):
    def names(data):
        return {part.name for part in run_all.wanted(Namespace(data=data, only=None, cpu=False))}

    assert "CIFAR-10" not in names(None) | names(tmp_path)
    (tmp_path / "cifar10").mkdir()
    assert "CIFAR-10" in names(tmp_path)
