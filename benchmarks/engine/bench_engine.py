"""What does the trainer cost? Its steps beside loops by hand, its host work, its way to a start.

    python -m benchmarks.engine.bench_engine --output benchmarks/results/engine_cpu.json
    python -m benchmarks.engine.tables        # docs/engine_speed.md from the results

On the CPU, with 1 and 2 ranks of a thread each; a machine of two idle cores takes about five
minutes. `step_times` says how steps are compared, `start_up` what its parts are. The file is
rewritten after each task; the same command goes on where it was interrupted.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import machine
from pipeline.storage.files import write_atomically
from tools import make_digits

ROOT = Path(__file__).parents[2]
_HERE = Path(__file__).parent
_PACKAGES = ("torch", "deepspeed", "timm")
_TIMEOUT_S = 900


class StepTask(NamedTuple):
    """Steps of a case on some ranks."""

    case: str
    ranks: int
    rounds: int
    steps: int


STEPS = (
    StepTask("dynamixer_s, narrow", 1, 15, 4),
    StepTask("dynamixer_nano", 1, 7, 4),
    StepTask("dynamixer_nano", 2, 7, 4),
    StepTask("dynamixer_s", 1, 4, 1),
    StepTask("dynamixer_s", 2, 4, 1),
)
START_UPS = ("none", "blocks")
"""`run.compile` of each."""


def main(argv: list[str] | None = None) -> int:
    """Measure what is not measured yet; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="raw results")
    output: Path = parser.parse_args(argv).output
    about = machine(*_PACKAGES)
    report: dict[str, Any] = {"about": about, "steps": [], "start_up": []}
    if output.exists():
        report = json.loads(output.read_text(encoding="utf-8"))
    for task in STEPS:
        if not any((run["case"], run["ranks"]) == task[:2] for run in report["steps"]):
            report["steps"].append(_timed(lambda task=task: measure_steps(task), str(task)))
            _write(output, report)
    for compiled in START_UPS:
        if not any(run["compile"] == compiled for run in report["start_up"]):
            found = _timed(lambda how=compiled: measure_start_up(how), f"start-up, {compiled}")
            report["start_up"].append(found)
            _write(output, report)
    return 0


def _timed(measure: Any, what: str) -> dict[str, Any]:
    began = time.perf_counter()
    found = measure()
    print(f"{what}: measured in {time.perf_counter() - began:.0f} s", flush=True)
    return found


def _write(output: Path, report: dict[str, Any]) -> None:
    write_atomically(output, (json.dumps(report, indent=1) + "\n").encode())


def measure_steps(task: StepTask) -> dict[str, Any]:
    """The result of `step_times`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(task.ranks)]
    command += ["--master-port", port, str(_HERE / "step_times.py")]
    return _result([*command, task.case, str(task.rounds), str(task.steps)], {})


def measure_start_up(compiled: str) -> dict[str, Any]:
    """The result of `start_up`, without anything that was compiled before."""
    with tempfile.TemporaryDirectory() as folder:
        make_digits.main([f"{folder}/digits"])
        recipe = ROOT / "configs" / "quickstart.yaml"
        command = [sys.executable, str(_HERE / "start_up.py"), str(time.time())]
        command += ["--config", str(recipe), f"data.root={folder}/digits", f"run.root={folder}"]
        command += ["run.max_steps=3", f"run.compile={compiled}"]
        found = _result(command, {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/compiled"})
    return {"compile": compiled, "seconds": found}


def _result(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(lines[0].removeprefix("RESULT "))


if __name__ == "__main__":
    raise SystemExit(main())
