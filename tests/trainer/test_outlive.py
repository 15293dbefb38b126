"""A rank outlives a launcher that kills it, and ends with its own code where it is not killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from trainer.process import launcher

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)
    return path.read_text()


@contextmanager
def rank(folder: Path, code: int = 75):
    """The stand-in that a launcher started, and the rank."""
    worker = Path(__file__).with_name("outlive_worker.py")
    stand_in = subprocess.Popen(
        [sys.executable, str(worker), str(folder), str(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    process = psutil.Process(int(wait_for(folder / "rank")))
    try:
        yield stand_in, process
    finally:
        stand_in.kill()
        stand_in.wait()
        psutil.wait_procs([process], timeout=TIMEOUT_S)


def test_the_rank_is_no_descendant_of_what_the_launcher_started(tmp_path):
    with rank(tmp_path) as (stand_in, process):
        assert psutil.Process(stand_in.pid).children(recursive=True) == []
        assert os.getsid(process.pid) != os.getsid(stand_in.pid)


@pytest.mark.parametrize("code", [0, 2, 75])
def test_a_signal_reaches_the_rank_and_its_code_the_launcher(tmp_path, code):
    with rank(tmp_path, code) as (stand_in, _):
        stand_in.send_signal(signal.SIGTERM)
        assert stand_in.wait(TIMEOUT_S) == code
    assert (tmp_path / "saved").read_text() == "by itself"


def test_a_rank_whose_stand_in_is_killed_saves(tmp_path):
    with rank(tmp_path) as (stand_in, _):
        stand_in.kill()
        assert wait_for(tmp_path / "saved") == "alone"


def test_a_rank_that_is_killed_ends_its_stand_in_with_1(tmp_path):
    with rank(tmp_path) as (stand_in, process):
        process.kill()
        assert stand_in.wait(TIMEOUT_S) == 1


def test_a_stop_that_takes_longer_than_the_launcher_waits_is_announced(monkeypatch):
    monkeypatch.delenv("CROSS_RANK", raising=False)
    assert launcher.long_stop(100.0) == ""
    monkeypatch.setenv("CROSS_RANK", "0")
    assert launcher.long_stop(29.0) == ""
    assert "takes about 100 s to save, and its launcher ends after 30 s" in launcher.long_stop(
        100.0
    )
