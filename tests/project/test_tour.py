"""docs/tour.py goes all its steps, and what it says of them is true."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import timm

import models  # noqa: F401  (registers ours)

ROOT = Path(__file__).parents[2]
TOUR = ROOT / "docs" / "tour.py"


@pytest.fixture(scope="module")
def gone(tmp_path_factory):
    """Where the tour went, and what it printed."""
    folder = tmp_path_factory.mktemp("tour") / "tour"
    done = subprocess.run(
        [sys.executable, TOUR, folder, "--epochs", "2"],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_what_the_kill_lost_comes_again(gone):
    _, told = gone
    assert re.search(r"Killed: the last checkpoint is of step 10, and steps to 1[4-9]", told)
    assert "going on from" in told
    rows = re.findall(r"^ +(\d+) +([\d.]+) +([\d.]+)$", told, re.MULTILINE)
    assert len(rows) >= 2
    assert all(before == again for _, before, again in rows)
    assert "The same, bit for bit." in told


def test_each_step_leaves_what_it_promises(gone):
    folder, told = gone
    for name in ("batch.png", "classes.csv", "confusion.csv", "runs/digits/curves.png"):
        assert (folder / name).stat().st_size > 100, name
    assert re.search(r"top-1 [\d.]+ % \(\d+ of 360\)", told)
    assert told.count("digit_00") >= 5
    model = timm.create_model(f"local-dir:{folder}/published", pretrained=True)
    assert model.num_classes == 10
    assert "digits: complete" in told


def test_every_command_is_shown_as_it_could_be_typed(gone):
    folder, told = gone
    lines = [shlex.split(line[2:]) for line in told.splitlines() if line.startswith("$ ")]
    assert len(lines) == 10
    for line in lines:
        assert line[0] == "python"
        assert (ROOT / line[1]).exists()
        assert str(folder) in " ".join(line)


def test_a_folder_that_exists_is_left_alone(gone):
    folder, _ = gone
    command = [sys.executable, TOUR, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{folder}: exists already; name another folder" in done.stderr
