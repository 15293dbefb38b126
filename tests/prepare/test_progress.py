"""SIGTERM ends each tool in words and with the exit code of an interruption."""

import subprocess
import sys

import pytest

from tools.cli import exits
from tools.make_shards import main as make_shards

PROGRAM = """
import os, signal, sys
from tools import check_data, make_folders, make_shards
from tools.cli.progress import ImageProgress
ImageProgress.advance = lambda *counted: os.kill(os.getpid(), signal.SIGTERM)
raise SystemExit({"check_data": check_data, "make_folders": make_folders, "make_shards":
    make_shards}[sys.argv[1]].main(sys.argv[2:]))
"""


@pytest.mark.parametrize("tool", ["check_data", "make_folders", "make_shards"])
def test_terminated_at_work_a_tool_says_so_and_leaves_nothing_behind(image_folder, tmp_path, tool):
    output, workers = ["--output", str(tmp_path / "out")], ["--workers", "2"]
    arguments = {
        "check_data": [str(image_folder), *workers],
        "make_folders": [str(image_folder), *output],
        "make_shards": [str(image_folder), *output, *workers, "--shard-samples", "10"],
    }[tool]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tool, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exits.INTERRUPTED, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: interrupted; run the same command again")
    assert "Traceback" not in done.stderr
    assert "leaked" not in done.stderr  # semaphores, of processes that were not stopped


def test_terminated_mending_leaves_the_shards_as_they_were(image_folder, tmp_path):
    output = tmp_path / "out"
    common = [str(image_folder), "--output", str(output), "--split", "val"]
    assert make_shards([*common, "--shard-samples", "10"]) == 0
    (output / "val" / "val-000001.tar").unlink()
    before = sorted((output / "val").iterdir())
    program = PROGRAM.replace(
        "ImageProgress.advance =",
        "from pipeline.prepare.checking import repair; repair.write_shard =",
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "check_data", str(output), "--repair", str(image_folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exits.INTERRUPTED, done.stderr
    assert sorted((output / "val").iterdir()) == before
