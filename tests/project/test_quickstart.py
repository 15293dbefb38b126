"""`make quickstart` keeps its promise: its own commands, from nothing to at least 97 %."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


def commands() -> list[list[str]]:
    """What `make quickstart` runs once the environment is there, with absolute programs."""
    shown = subprocess.run(
        ["make", "--dry-run", "--assume-old=.venv/.complete", "quickstart"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [shlex.split(line) for line in shown.stdout.splitlines()]
    ours = ("tools/", "configs/", "launch.py")
    return [
        [str(ROOT / word) if word.startswith(ours) else word for word in line]
        for line in lines
        if line[0] in ("python", "deepspeed")
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    outputs = [
        subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True, check=True
        ).stdout
        for command in commands()
    ]
    return folder / "runs" / "quickstart", outputs[-1]


def test_the_digits_are_recognised(finished):
    summary = json.loads((finished[0] / "summary.json").read_text())
    assert summary["count"] == 360
    assert summary["top1"] >= 97


def test_it_leaves_pictures_and_says_where(finished):
    folder, report = finished
    for name in ("batch.png", "curves.png"):
        assert (folder / name).stat().st_size > 10_000
        assert f"runs/quickstart/{name}" in report
    assert "waiting for data" in report


def test_started_again_it_is_complete_at_once(finished):
    folder, _ = finished
    before = (folder / "metrics.jsonl").read_text()
    for command in commands()[:3]:  # what follows only reads
        subprocess.run(
            command, cwd=folder.parents[1], env=environment(), capture_output=True, check=True
        )
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    again = [line for line in lines if '"note"' not in line]
    assert again == [line for line in before.splitlines() if '"note"' not in line]
