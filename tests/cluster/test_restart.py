"""torchrun's own restarts: a rank is killed, all of them start again and go on."""

import os
import signal
import subprocess

import psutil
import pytest

from tests.support.cluster_runs import (
    ROOT,
    Files,
    assert_same_run,
    environment,
    events,
    wait_for_step,
)

TIMEOUT_S = 240


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("files"), images=200, save_every_steps=2)


def rank_process(launcher: int, rank: int) -> int:
    """The process of a rank that a launcher started."""
    children = psutil.Process(launcher).children(recursive=True)
    return next(child.pid for child in children if child.environ().get("RANK") == str(rank))


@pytest.mark.slow
def test_a_killed_rank_is_started_again_and_the_run_ends_like_an_undisturbed_one(files, tmp_path):
    runs, log = tmp_path / "killed", tmp_path / "log"
    with log.open("w") as output:
        torchrun = subprocess.Popen(
            files.torchrun(runs, "--max-restarts", "1"),
            cwd=ROOT,
            env=environment(),
            stdout=output,
            stderr=output,
        )
        try:
            wait_for_step(runs, 3, said=log.read_text, launcher=torchrun, timeout_s=TIMEOUT_S)
            os.kill(rank_process(torchrun.pid, 1), signal.SIGKILL)
            assert torchrun.wait(TIMEOUT_S) == 0, log.read_text()[-3000:]
        finally:
            torchrun.terminate()
            torchrun.wait()
    assert any("going on from" in str(note["text"]) for note in events(runs, "note"))
    assert_same_run(runs, files.undisturbed(tmp_path / "undisturbed"))
