"""How tools end where the work is not to blame: Ctrl-C early, and output that nobody reads."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import command_line, exit_codes
from tests.support.pictures import CLASSES
from tools.cli import exits

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / "launch.py", *sorted((ROOT / "tools").glob("[a-z]*.py"))]
AT_IMPORT = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == when:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
when, *sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def started(command, **options):
    return subprocess.Popen(
        [sys.executable, *map(str, command)], stderr=subprocess.PIPE, text=True, cwd=ROOT, **options
    )


def unread(command):
    """Start `command` with its output going into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return started(command, stdout=writer)
    finally:
        os.close(writer)


def test_interrupted_while_modules_load_every_tool_ends_by_the_signal_in_a_word():
    """At the first module of each, where nearly all are still to come, or at a later one."""
    moments = ("argparse", "pathlib", "pipeline.exit_codes")
    for number in range(0, len(SCRIPTS), 4):  # not all at once
        processes = {
            script: started(["-c", AT_IMPORT, moments[place % 3], script, "--help"])
            for place, script in enumerate(SCRIPTS[number : number + 4])
        }
        for script, process in processes.items():
            _, error = process.communicate()
            assert (process.returncode, error) == (-signal.SIGINT, "interrupted\n"), script


def test_help_that_nobody_reads_ends_a_tool_in_silence():
    for script in SCRIPTS[::6]:
        process = unread([script, "--help"])
        _, error = process.communicate()
        assert error == "", script
        # argparse itself drops what does not fit a buffer.
        assert process.returncode in (exit_codes.NO_READER, exit_codes.COMPLETE), script


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A folder with so many empty images that their names fill a pipe."""
    folder = tmp_path_factory.mktemp("damaged") / "images"
    for split in ("train", "val"):
        (folder / split / CLASSES[0]).mkdir(parents=True)
        for number in range(1500):
            (folder / split / CLASSES[0] / f"{'n' * 60}{number}.jpg").touch()
    return folder


@pytest.mark.parametrize("tool", ["check_data", "make_shards", "make_folders"])
def test_words_that_nobody_reads_end_the_work_in_silence(damaged, tmp_path, tool):
    output = [] if tool == "check_data" else ["--output", tmp_path / "out"]
    process = unread([f"tools/{tool}.py", damaged, *output])
    _, error = process.communicate()
    assert "Traceback" not in error
    assert "Broken pipe" not in error
    if tool == "check_data":  # the others have their words on the error stream
        assert process.returncode == exit_codes.NO_READER


def test_an_error_stream_that_nobody_reads_ends_the_work_too(damaged, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "tools/make_shards.py", str(damaged), "--output", str(tmp_path)]
    done = subprocess.run(command, stdout=writer, stderr=writer, cwd=ROOT, check=False)
    os.close(writer)
    assert done.returncode == exit_codes.NO_READER


def test_output_that_a_full_disk_does_not_take_is_told(image_folder):
    with Path("/dev/full").open("w") as full:
        process = started(["tools/check_data.py", image_folder / "val"], stdout=full)
        _, error = process.communicate()
    assert process.returncode == exit_codes.IO
    assert error == "error: [Errno 28] No space left on device\n"


def test_a_broken_pipe_of_something_else_is_an_error_as_any(capsys):
    def work():
        raise BrokenPipeError(32, "Broken pipe", "http://server/file")

    assert exits.told(work) == exit_codes.IO
    assert "http://server/file: Broken pipe; run the same command again" in capsys.readouterr().err
    with pytest.raises(BrokenPipeError):
        command_line.to_the_end(work)
