"""Programs of ours, started from an experiment, and what a run has written."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]

_GRACE_S = 60
"""For a program that is told to stop: a run saves."""
_TAIL = 2000
"""Characters of what a program says that a failure is told with."""


def launched(
    *command: str, environment: Mapping[str, str] | None = None, codes: tuple[int, ...] = (0,)
) -> str:
    """Run `python COMMAND` in the project's folder; return what it printed.

    An interruption is passed on, and the program's end is waited for.

    Raises:
        RuntimeError: if it ends with another code than `codes`, with the end of what it said.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    program = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = program.communicate()
    except BaseException:
        _stop(program)
        raise
    if program.returncode not in codes:
        raise RuntimeError(f"{' '.join(command)} ended with {program.returncode}: {said[-_TAIL:]}")
    return said


def _stop(program: subprocess.Popen[str]) -> None:
    program.terminate()
    try:
        program.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


def events_of(run: Path, kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind, such as `step`, of a run's folder."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def speed_of(run: Path, *, batch: int, skip: int) -> dict[str, Any]:
    """Return how fast a run was, without its first `skip` log events, which compile.

    Args:
        run: its folder.
        batch: images of a step.
        skip: log events left out.
    """
    steps = events_of(run, "step")
    before, counted = steps[skip - 1]["step"] if skip else 0, steps[skip:]
    seconds, waited, last = 0.0, 0.0, before
    for event in counted:
        seconds += (event["step"] - last) * batch / event["images_per_s"]
        waited += event["data_wait_s"]
        last = event["step"]
    return {
        "images_per_s": statistics.median(event["images_per_s"] for event in counted),
        "data_wait_share": waited / seconds,
        "steps": last - before,
        "mfu": counted[-1]["mfu"],
        "peak_memory_bytes": counted[-1]["peak_memory_bytes"],
        "loss": counted[-1]["loss"],
    }
