"""Run every experiment, each in a process of its own, in the order of worth, within some minutes.

    sh benchmarks/gpu/all.sh OUT [--cpu] [--minutes M] [--data FOLDER] [--only PART ...]

OUT gets a JSON of raw results for each experiment, what it said in a .log, and progress.json. The
same command goes on: what is done is left out, and what failed or took too long is tried again,
after what has not been tried. Nothing that was measured is lost, however this ends.

Exit codes: 0 when all is done, 75 when something is left and the same command goes on, 1 when
nothing is left but what failed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import PARTS, Part
from pipeline import command_line
from pipeline.storage.files import write_atomically
from pipeline.storage.locks import held_files, locked
from tools.cli import exits
from tools.cli.numbers import positive

ROOT = Path(__file__).parents[2]

MINUTES = 25
_GRACE_S = 20
"""For a process that is told to stop: what it has is written already."""
_PATIENCE_S = 60
"""For what a killed command has started, and which may still be ending."""
_LEAST_S = 20
"""Less time than this starts nothing new."""
DONE, FAILED, CUT_OFF = "done", "failed", "cut off"
_TAIL = 1500
"""Characters of what a part said that progress.json keeps."""


def main(argv: list[str] | None = None) -> int:
    """Run what is not done yet; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    parser.add_argument("output", type=Path, metavar="OUT", help="folder for raw results")
    parser.add_argument("--cpu", action="store_true", help="try all scripts out at tiny sizes")
    parser.add_argument("--minutes", type=positive, default=MINUTES, help=f"default: {MINUTES}")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="see the experiments' --help")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=[p.name for p in PARTS])
    arguments = command_line.parse(parser, argv)
    return exits.told(partial(run_all, arguments))


def run_all(arguments: argparse.Namespace) -> int:
    """Run the parts.

    Raises:
        OutputError: if another process writes into the folder.
    """
    deadline = time.monotonic() + 60 * arguments.minutes
    output: Path = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    refusal = f"{output}: another process is measuring into it; wait for it, or name another folder"
    with locked(output / ".lock", refusal, patience_s=_PATIENCE_S):
        progress = Progress(output / "progress.json")
        for part in progress.left(wanted(arguments)):
            seconds = min(part.limit_s, deadline - time.monotonic()) - _GRACE_S
            if seconds < _LEAST_S:
                break
            progress.begin(part)
            outcome = run(part, command_of(part, arguments), output, seconds)
            progress.end(part, outcome, said=log_of(part, output))
            print(f"{part.name}: {outcome}", flush=True)
        outcomes = progress.outcomes(wanted(arguments))
    if CUT_OFF in outcomes:
        print("something is left: the same command goes on", flush=True)
        return exits.INTERRUPTED
    return exits.FAILED if FAILED in outcomes else exits.COMPLETE


def wanted(arguments: argparse.Namespace) -> list[Part]:
    """Return the parts that are asked for and can be measured."""
    data: Path | None = arguments.data
    return [
        part
        for part in PARTS
        if (not arguments.only or part.name in arguments.only)
        and (part.on_cpu or not arguments.cpu)
        and (not part.needs or arguments.cpu or (data is not None and (data / part.needs).is_dir()))
    ]


def command_of(part: Part, arguments: argparse.Namespace) -> list[str]:
    """Return the command line of a part."""
    output = arguments.output.resolve() / f"{part.module}.json"
    command = [sys.executable, "-m", f"benchmarks.gpu.{part.module}", "--with-parent"]
    command += ["--device", "cpu" if arguments.cpu else "cuda", "--output", str(output)]
    if arguments.data:
        command += ["--data", str(arguments.data.resolve())]
    return command + (["--only", *part.only] if part.only and not arguments.cpu else [])


def run(part: Part, command: Sequence[str], output: Path, seconds: float) -> str:
    """Run a part for so many seconds at most; return how it went."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with (output / f"{part.module}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # It holds the lock of the folder as long as it may write there.
            pass_fds=[held.descriptor for held in held_files()],
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            stop(process)
            return CUT_OFF
        except BaseException:
            stop(process)
            raise
    return {exits.COMPLETE: DONE, exits.INTERRUPTED: CUT_OFF}.get(code, FAILED)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Tell a process to stop, then end all that it has started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def log_of(part: Part, output: Path) -> str:
    """Return the end of what a part said."""
    return (output / f"{part.module}.log").read_text(encoding="utf-8", errors="replace")[-_TAIL:]


class Progress:
    """progress.json: how often each part was tried, and how the last try went.

    A part that is being tried counts as cut off, so that its file says so if everything is killed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._parts = json.loads(path.read_text(encoding="utf-8"))

    def left(self, parts: list[Part]) -> list[Part]:
        """Return what is not done, what has been tried least often first."""
        undone = [part for part in parts if self._of(part)["outcome"] != DONE]
        return sorted(undone, key=lambda part: self._of(part)["tries"])

    def outcomes(self, parts: list[Part]) -> list[str]:
        """Return how each part stands; one that was not tried is left, as one that was cut off."""
        return [self._of(part)["outcome"] for part in parts]

    def begin(self, part: Part) -> None:
        """Note that a part is being tried."""
        self._note(part, tries=self._of(part)["tries"] + 1, began=time.time(), outcome=CUT_OFF)

    def end(self, part: Part, outcome: str, *, said: str) -> None:
        """Note how it went."""
        seconds = round(time.time() - self._of(part)["began"], 1)
        self._note(part, outcome=outcome, seconds=seconds, said=said)

    def _of(self, part: Part) -> dict[str, Any]:
        return self._parts.get(part.name, {"tries": 0, "outcome": CUT_OFF})

    def _note(self, part: Part, **values: object) -> None:
        self._parts[part.name] = {**self._of(part), **values}
        write_atomically(self._path, (json.dumps(self._parts, indent=1) + "\n").encode())


if __name__ == "__main__":
    raise SystemExit(main())
