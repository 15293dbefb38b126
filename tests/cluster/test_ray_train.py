"""A recipe under Ray Train, on a local cluster of two workers: killed, started again, completed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
TIMEOUT_S = 900
# On a busy machine, Ray's own patience is too short. No token is written to the home folder.
ENVIRONMENT = {
    **environment(),
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_AUTH_MODE": "disabled",
}


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


def ranks(files: Files) -> list[psutil.Process]:
    """The ranks themselves; they descend from nothing of Ray's, as their stand-ins do."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command, parent = process.cmdline(), process.parent()
            is_ours = {str(ROOT / "launch.py"), str(files.recipe)} <= set(command)
            if is_ours and parent is not None and "ray::" not in " ".join(parent.cmdline()):
                found.append(process)
    assert len(found) == 2
    return found


@contextmanager
def driver(files: Files, runs: Path, log: Path) -> Iterator[subprocess.Popen]:
    """The command; nothing of it is left in the end."""
    with log.open("a") as output:
        process = subprocess.Popen(
            command(*files.arguments(runs)), env=ENVIRONMENT, cwd=ROOT, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        left = []
        if process.poll() is None:
            left = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(left, timeout=60)
        for child in alive:
            child.kill()


def test_a_killed_rank_is_started_again_and_the_run_ends_like_an_undisturbed_one(
    files, undisturbed, tmp_path
):
    runs, log = tmp_path / "runs", tmp_path / "log"
    with driver(files, runs, log) as process:
        wait_for_step(runs, 3, said=log.read_text, launcher=process, timeout_s=TIMEOUT_S)
        ranks(files)[-1].kill()
        assert process.wait(TIMEOUT_S) == 0, log.read_text()[-5000:]
    assert any("going on from" in str(note["text"]) for note in events(runs, "note"))
    assert_same_run(runs, undisturbed)


def test_ranks_whose_driver_is_killed_save_and_the_same_command_goes_on(
    files, undisturbed, tmp_path
):
    runs, log = tmp_path / "runs", tmp_path / "log"
    with driver(files, runs, log) as process:
        wait_for_step(runs, 3, said=log.read_text, launcher=process, timeout_s=TIMEOUT_S)
        left = ranks(files)
        process.kill()
        _, alive = psutil.wait_procs(left, timeout=TIMEOUT_S)
        assert not alive
    assert json.loads((runs / "tiny" / "exit.json").read_text())["exit_code"] == 75
    with driver(files, runs, log) as process:
        assert process.wait(TIMEOUT_S) == 0, log.read_text()[-5000:]
    assert any("going on from" in str(note["text"]) for note in events(runs, "note"))
    assert_same_run(runs, undisturbed)


def test_data_that_cannot_be_used_ends_the_command_with_2_and_is_not_tried_again(files, tmp_path):
    arguments = [*files.arguments(tmp_path / "runs"), "batch.global_size=4000"]
    done = subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said[-3000:]
    assert said.count("batch.global_size: 4000 is more than the 400 training images") == 1
