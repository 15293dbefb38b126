"""How fast are loaders? Ours beside what others use, on the same photographs and cores.

    python -m benchmarks.bench_loader IMAGES --output benchmarks/results/loader_speed.json
    python -m benchmarks.bench_loader IMAGES --output FILE --rounds 3 --scaling --memory   # all
    python -m benchmarks.bench_loader IMAGES --output FILE --peers "timm, uint8" "FFCV 400 px"
    python -m benchmarks.loader_tables                   # docs/loader_speed.md from the results

IMAGES is a folder of class folders with photographs, which are linked several times, so that an
epoch is long enough. Each peer makes batches of 64 images of 224 pixels, uint8 unless its name says
otherwise, with as many threads or worker processes as there are cores, in a process of its own;
rounds are interleaved. What is compared is images per second of CPU time of the whole tree of
processes, since machines are shared.

FILE holds every finished run; the same command goes on where it was interrupted. SPDL is not in
the environment: `pip install --no-deps --target DIR spdl-core` and PYTHONPATH=DIR add it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.loader_peers import data_sets
from benchmarks.loader_peers.peer import DataSets
from benchmarks.loader_peers.peers import NAMES
from benchmarks.machine import machine
from pipeline.errors import DataError
from pipeline.storage.files import write_atomically
from tools.cli import exits
from tools.cli.numbers import positive

IMAGES = 1600
"""An epoch has at least as many."""
CORES = len(os.sched_getaffinity(0))
HOST = "ours: host, shards"
SMALL = "ours: host, shards 400 px"
_PACKAGES = ("torch", "torchvision", "timm", "nvidia-dali-cuda130", "ffcv", "simplejpeg")
_TIMEOUT_S = 600
_ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
"""Peers use the threads that they are told to; more would only turn and wait."""

Run = dict[str, str | int | float | list[float]]


class Task(NamedTuple):
    """One run of one peer."""

    kind: str
    peer: str
    threads: int
    round: int

    def is_of(self, run: Run) -> bool:
        """Whether `run` is this one's."""
        return all(run[key] == value for key, value in self._asdict().items())

    def is_done(self, runs: list[Run]) -> bool:
        """Whether `runs` has it; what was unavailable is tried again."""
        return any(self.is_of(run) and "unavailable" not in run for run in runs)


def main(argv: list[str] | None = None) -> int:
    """Measure what is not measured yet; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help="folder of class folders with photographs")
    parser.add_argument("--output", type=Path, required=True, help="raw results, JSON")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--peers", nargs="+", choices=NAMES, default=NAMES, metavar="PEER")
    parser.add_argument("--threads", type=positive, default=CORES, help="default: all cores")
    parser.add_argument("--scaling", action="store_true", help="also our host loader on one thread")
    parser.add_argument("--memory", action="store_true", help="also our memory over 200 epochs")
    arguments = parser.parse_args(argv)
    return exits.told(partial(measure_all, arguments))


def measure_all(arguments: argparse.Namespace) -> int:
    """Measure, and write each result as soon as it is there; returns the exit code.

    Raises:
        DataError: if the output has results of something else.
    """
    images: Path = arguments.images.resolve()
    with tempfile.TemporaryDirectory(dir=images.parent, prefix="bench_loader_") as scratch:
        tasks, console = list(wanted(arguments)), Console(highlight=False)
        console.print("making the data sets ...")
        sets = data_sets.make(images, Path(scratch), at_least=IMAGES)
        report = opened(arguments.output, about(sets, images))
        left = [task for task in tasks if not task.is_done(report["runs"])]
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            bar = progress.add_task("", total=len(tasks), completed=len(tasks) - len(left))
            for task in left:
                progress.update(bar, description=task.peer)
                result = run(task, sets)
                others = [other for other in report["runs"] if not task.is_of(other)]
                report["runs"] = [*others, {**task._asdict(), **result}]
                write_atomically(arguments.output, (json.dumps(report, indent=1) + "\n").encode())
                progress.console.print(in_words(task, result))
                progress.advance(bar)
    return exits.COMPLETE


def wanted(arguments: argparse.Namespace) -> Iterator[Task]:
    """Yield all runs, round by round."""
    for number in range(arguments.rounds):
        for name in arguments.peers:
            yield Task("speed", name, arguments.threads, number)
        if arguments.scaling:
            for threads in (1, arguments.threads):
                yield Task("scaling", HOST, threads, number)
    if arguments.memory:
        yield Task("memory", SMALL, arguments.threads, 0)


def opened(output: Path, described: dict[str, object]) -> dict[str, list[Run]]:
    """Return the results so far.

    Raises:
        DataError: if they are of other photographs or versions.
    """
    if not output.exists():
        return {"about": described, "runs": []}  # pyright: ignore[reportReturnType]
    report = json.loads(output.read_text(encoding="utf-8"))
    changing = ("date", "load")
    for key in described.keys() - changing:
        if report["about"].get(key) != described[key]:
            raise DataError(
                f"{output}: has results with {key} {report['about'].get(key)!r}, and this is"
                f" {described[key]!r}; name another file"
            )
    return report


def about(sets: DataSets, images: Path) -> dict[str, object]:
    """Return what the figures depend on."""
    photographs = [path for path in images.glob("*/*") if path.is_file()]
    linked = sum(1 for _ in (sets.folder / "train").glob("*/*"))
    return {
        **machine(*_PACKAGES),
        "photographs": len(photographs),
        "bytes": sum(path.stat().st_size for path in photographs),
        "links": linked // len(photographs),
    }


def run(task: Task, sets: DataSets) -> Run:
    """Do `task` in a fresh process; a peer that fails is unavailable."""
    command = [sys.executable, "-m", "benchmarks.loader_peers.measure", task.peer, str(sets.root)]
    command += [str(task.threads), *(["--memory"] if task.kind == "memory" else [])]
    # What is not in the environment, such as SPDL, may lie elsewhere on the path.
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **_ENVIRONMENT, "PYTHONPATH": path}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"unavailable": f"did not end within {_TIMEOUT_S} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"unavailable": lines[-1] if lines else f"exit code {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def in_words(task: Task, result: Run) -> str:
    """Return a line for whoever waits."""
    head = f"round {task.round}  {task.peer:34}"
    if "unavailable" in result:
        return f"{head} not available: {result['unavailable']}"
    if "megabytes" in result:
        return f"{head} MB after every 20 epochs: {result['megabytes']}"
    images, cpu, wall = (float(result[key]) for key in ("images", "cpu_s", "wall_s"))  # pyright: ignore[reportArgumentType]
    return f"{head} {images / cpu:7,.0f} images / CPU-second {images / wall:7,.0f} images/s"


if __name__ == "__main__":
    raise SystemExit(main())
