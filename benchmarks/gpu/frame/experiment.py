"""An experiment: cases that are measured one by one, each written as soon as it is there.

The file is whole at any moment, and the same command goes on with the cases that it lacks. A case
that fails is written down with its reason and tried again by the next command; one that cannot be
measured on this machine is not. Exit codes are those of all our programs: 75 after SIGTERM, 1 if a
case failed.
"""

import argparse
import ctypes
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.frame.about import about
from pipeline import command_line
from pipeline.errors import DataError
from pipeline.storage.files import write_atomically
from tools.cli import exits

Result = dict[str, Any]
Case = Callable[[], Result]
Cases = Mapping[str, Case]

_CHANGING = ("date", "load")
"""Of `about`: what may differ between two commands that measure cases of one file."""
_PR_SET_PDEATHSIG = 1


class UnavailableError(Exception):
    """A case cannot be measured on this machine; says why."""


def main(
    doc: str | None, cases: Callable[[argparse.Namespace], Cases], argv: list[str] | None = None
) -> int:
    """Measure what the command line asks for; returns the exit code.

    Args:
        doc: the experiment's docstring.
        cases: returns all cases by name, in order; it gets `device`, a torch.device, `data`, a
            folder or None, and `output`, the file.
        argv: the command line.
    """
    parser = command_line.new_parser(doc)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="raw results")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="with images/CLASS/NAME.jpg and cifar10/"
    )
    parser.add_argument("--only", nargs="+", metavar="CASE", help="default: all")
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)
    arguments = command_line.parse(parser, argv)
    if arguments.with_parent:
        _end_with_parent()
    return exits.told(partial(_measure, arguments, cases))


def _end_with_parent() -> None:
    """Be told to stop when the process that started this one is gone, however it ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _measure(arguments: argparse.Namespace, cases: Callable[[argparse.Namespace], Cases]) -> int:
    arguments.device = torch.device(arguments.device)
    if arguments.device.type == "cuda" and not torch.cuda.is_available():
        raise DataError("--device cuda: torch sees no GPU here; --device cpu tries a script out")
    named = cases(arguments)
    if unknown := sorted(set(arguments.only or ()) - named.keys()):
        raise DataError(f"--only: no case {', '.join(unknown)}; there are {', '.join(named)}")
    record = Record(arguments.output, about(arguments.device))
    failed = 0
    for name in arguments.only or named:
        if record.has(name):
            continue
        result = _tried(named[name])
        record.add(name, result)
        print(f"{name}: {in_words(result)}", flush=True)
        failed += "failed" in result
        if "failed" in result and _is_lost(arguments.device):
            break
    return exits.FAILED if failed else exits.COMPLETE


def _tried(case: Case) -> Result:
    began = time.perf_counter()
    try:
        result = case()
    except UnavailableError as error:
        result = {"unavailable": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever fails is written down; the others go on
        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {error}"}
    return {**result, "took_s": round(time.perf_counter() - began, 1)}


def _is_lost(device: torch.device) -> bool:
    """Whether nothing more can be computed: after some errors a GPU is lost to its process."""
    try:
        torch.ones(1, device=device).item()
    except RuntimeError:
        return True
    return False


def in_words(result: Result) -> str:
    """Return how a case went."""
    for outcome in ("failed", "unavailable"):
        if outcome in result:
            return f"{outcome}: {result[outcome]}"
    return f"measured in {result['took_s']:.1f} s"


class Record:
    """The file of an experiment.

    Attributes:
        cases: results so far, by name.
    """

    def __init__(self, path: Path, described: dict[str, object]) -> None:
        """Go on with the file at `path`, or begin it.

        Raises:
            DataError: if it has results of another machine or of other versions.
        """
        self._path = path
        self._about = described
        self.cases: dict[str, Result] = {}
        if path.exists():
            report = json.loads(path.read_text(encoding="utf-8"))
            self._about, self.cases = report["about"], report["cases"]
            self._check(json.loads(json.dumps(described)))

    def _check(self, described: dict[str, object]) -> None:
        for key in described.keys() - _CHANGING:
            if self._about.get(key) != described[key]:
                raise DataError(
                    f"{self._path}: has results with {key} {self._about.get(key)!r}, and this is"
                    f" {described[key]!r}; name another file"
                )

    def has(self, name: str) -> bool:
        """Whether nothing is left to do for the case."""
        return name in self.cases and "failed" not in self.cases[name]

    def add(self, name: str, result: Result) -> None:
        """Write the result of a case."""
        self.cases[name] = result
        report = {"about": self._about, "cases": self.cases}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, (json.dumps(report, indent=1) + "\n").encode())
