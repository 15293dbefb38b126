"""The deepspeed launcher kills after 30 s: ranks that need longer save all the same."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.cluster_runs import (
    ROOT,
    Files,
    environment,
    events,
    free_port,
    wait_for_step,
)

pytestmark = pytest.mark.slow
TIMEOUT_S = 1800


@contextmanager
def deepspeed(files: Files, runs: Path, log: Path, *more: str) -> Iterator[subprocess.Popen]:
    """Two ranks under the launcher; none is left in the end."""
    options = ("--num_accelerators", "2", "--master_port", free_port())
    with log.open("w") as output:
        process = subprocess.Popen(
            ("deepspeed", *options, str(ROOT / "launch.py"), *files.arguments(runs), *more),
            cwd=ROOT,
            env=environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        psutil.wait_procs(ranks(files, process), timeout=TIMEOUT_S)


def ranks(files: Files, launcher: subprocess.Popen) -> list[psutil.Process]:
    """The ranks themselves, which are not in the session of the launcher and of their stand-ins."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            is_ours = str(files.recipe) in process.cmdline()
            if is_ours and os.getsid(process.pid) != launcher.pid:
                found.append(process)
    return found


def test_ranks_killed_by_their_launcher_while_a_long_step_runs_save(tmp_path):
    files = Files(tmp_path, images=400)
    runs, log = tmp_path / "runs", tmp_path / "log"
    # The run stops after two steps, which on two fast cores must take longer than 30 s together.
    long = ("model.name=dynamixer_s", "batch.per_gpu=2", "batch.global_size=140", "ema.decay=0.0")
    with deepspeed(files, runs, log, *long) as launcher:
        wait_for_step(runs, 1, said=log.read_text, launcher=launcher, timeout_s=TIMEOUT_S)
        tree = psutil.Process(launcher.pid).children(recursive=True)
        began = time.monotonic()
        os.killpg(launcher.pid, signal.SIGTERM)
        psutil.wait_procs(tree, timeout=TIMEOUT_S)
        killed_s = time.monotonic() - began
        while not (runs / "tiny" / "exit.json").exists():
            assert time.monotonic() < began + TIMEOUT_S, log.read_text()[-3000:]
            time.sleep(0.1)
        saved_s = time.monotonic() - began
    told = json.loads((runs / "tiny" / "exit.json").read_text())
    assert (told["exit_code"], told["message"]) == (75, "stopped")
    assert saved_s > killed_s > 30, (killed_s, saved_s)
    assert len(list((runs / "tiny" / "checkpoints").glob("step_*"))) == 1
    assert any("its launcher ends after 30 s" in str(note["text"]) for note in events(runs, "note"))
    assert "Traceback" not in log.read_text()


def test_a_killed_rank_ends_the_other_one_in_a_sentence(tmp_path):
    files = Files(tmp_path, images=400)
    runs, log = tmp_path / "runs", tmp_path / "log"
    with deepspeed(files, runs, log) as launcher:
        wait_for_step(runs, 2, said=log.read_text, launcher=launcher, timeout_s=TIMEOUT_S)
        both = ranks(files, launcher)
        assert len(both) == 2
        both[1].kill()
        assert launcher.wait(TIMEOUT_S) != 0
        psutil.wait_procs(both, timeout=TIMEOUT_S)
    said = log.read_text()
    assert "error: another rank ended or cannot be reached" in said
    assert "Traceback" not in said
