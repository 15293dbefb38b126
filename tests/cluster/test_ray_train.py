"""A recipe under Ray Train, on a local cluster of two workers: killed, started again, completed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

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

pytestmark = pytest.mark.slow
TIMEOUT_S = 400


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("files"), images=400, save_every_steps=2)


@pytest.fixture(scope="module")
def undisturbed(files, tmp_path_factory):
    """The same run on two ranks under torchrun."""
    return files.undisturbed(tmp_path_factory.mktemp("undisturbed"))


def command(*arguments: str) -> list[str]:
    script = str(ROOT / "cluster" / "ray_train.py")
    return [sys.executable, script, "--workers", "2", *arguments]


def ranks(driver: int) -> list[psutil.Process]:
    """The processes of `launch.py` below a driver, which started the cluster."""
    children = psutil.Process(driver).children(recursive=True)
    return [child for child in children if str(ROOT / "launch.py") in child.cmdline()]


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    with log.open("a") as output:
        return subprocess.Popen(
            arguments, cwd=ROOT, env=environment(), stdout=output, stderr=output
        )


def test_a_killed_rank_is_started_again_and_the_run_ends_like_an_undisturbed_one(
    files, undisturbed, tmp_path
):
    runs, log = tmp_path / "runs", tmp_path / "log"
    driver = start(command(*files.arguments(runs)), log)
    wait_for_step(runs, 3, said=log.read_text, timeout_s=TIMEOUT_S)
    os.kill(ranks(driver.pid)[-1].pid, signal.SIGKILL)
    assert driver.wait(TIMEOUT_S) == 0, log.read_text()[-5000:]
    assert any("going on from" in str(note["text"]) for note in events(runs, "note"))
    assert_same_run(runs, undisturbed)


def test_the_same_command_goes_on_where_the_driver_was_killed(files, undisturbed, tmp_path):
    runs, log = tmp_path / "runs", tmp_path / "log"
    driver = start(command(*files.arguments(runs)), log)
    wait_for_step(runs, 3, said=log.read_text, timeout_s=TIMEOUT_S)
    left = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(left, timeout=60)
    assert not alive, [process.cmdline() for process in alive]
    again = start(command(*files.arguments(runs)), log)
    assert again.wait(TIMEOUT_S) == 0, log.read_text()[-5000:]
    assert any("going on from" in str(note["text"]) for note in events(runs, "note"))
    assert_same_run(runs, undisturbed)


def test_data_that_cannot_be_used_ends_the_command_with_2_and_is_not_tried_again(files, tmp_path):
    arguments = [*files.arguments(tmp_path / "runs"), "batch.global_size=4000"]
    done = subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said[-3000:]
    assert said.count("batch.global_size: 4000 is more than the 400 training images") == 1
