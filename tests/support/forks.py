"""Programs of ours as forks of one process that has imported torch, DeepSpeed and DALI once.

A start of `python launch.py` imports for seconds and in most tests trains for less. A fork begins
where the imports end; otherwise it is what a start is, a process and a session of its own, with its
arguments, environment, files and exit code, which signals reach. What imports and launchers do is
left to the tests that start those.

Run as a program, this file is the process that is forked.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 1800
"""For what should take seconds, or minutes in slow tests: an end of what hangs."""
PRELOADED = (
    "trainer.assembly.run",
    "trainer.engine.process_group",
    "trainer.process.early_checks",
    "trainer.sinks.tensorboard_sink",
    "pipeline.loaders.dali_loader",
    "pipeline.loaders.host_loader",
    "pipeline.loaders.reference_loader",
    "plotly.offline",
)


class Fork:
    """A program that runs in a fork, as `subprocess.Popen` shows one."""

    def __init__(self, forks: "Forks", pid: int, outputs: list[str]) -> None:
        """Show the process `pid`, whose standard output and error are two files."""
        self.pid = pid
        self.returncode: int | None = None
        self._forks = forks
        self._outputs = outputs

    def poll(self) -> int | None:
        """The exit code, minus the number of the signal that ended it, or None: it still runs."""
        if self.returncode is None:
            self.returncode = self._forks.ask({"ended": self.pid})
        return self.returncode

    def communicate(self, timeout: float = TIMEOUT_S) -> tuple[str, str]:
        """What it has said on standard output and error, once it has ended."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise TimeoutError(f"still running after {timeout} s: {self._said()[1][-3000:]}")
            time.sleep(0.01)
        return self._said()

    def _said(self) -> tuple[str, str]:
        output, error = (Path(path).read_text() for path in self._outputs)
        return output, error


class Forks:
    """The process that is forked, started when it is first needed."""

    def __init__(self, folder: Path) -> None:
        """Keep what the programs say in `folder`."""
        self._folder = folder
        self._count = 0
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            # A fork may then still use a GPU, after its parent has asked whether there is one.
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End it, and whatever still runs in forks."""
        self._server.communicate()

    def ask(self, question: dict[str, Any]) -> int | None:
        """Write a line to the process that is forked, and read its answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{json.dumps(question)}\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, "the process that is forked has ended; above it says why"
        return json.loads(answer)

    def start(self, command: Sequence[str | Path], **environment: str) -> Fork:
        """Begin what `command`, an interpreter and a program with its arguments, would begin."""
        self._count += 1
        outputs = [str(self._folder / f"{self._count}.{name}") for name in ("out", "err")]
        asked = {
            "program": [str(word) for word in command[1:]],
            "environment": {**os.environ, **environment},
            "outputs": outputs,
        }
        pid = self.ask(asked)
        assert pid is not None
        return Fork(self, pid, outputs)

    def run(
        self, command: Sequence[str | Path], **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` does, with what the program says as text."""
        fork = self.start(command, **environment)
        output, error = fork.communicate()
        assert fork.returncode is not None
        return subprocess.CompletedProcess(command, fork.returncode, output, error)

    def run_ranks(self, program: Path, ranks: int, *arguments: str) -> str:
        """Run it on several ranks, as torchrun would; what rank 0 says on standard output."""
        world = {
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": free_port(),
        }
        command = [sys.executable, program, *arguments]
        started = [
            self.start(command, **world, RANK=str(rank), LOCAL_RANK=str(rank))
            for rank in range(ranks)
        ]
        said = [fork.communicate() for fork in started]
        assert not any(fork.returncode for fork in started), said[0][1][-3000:]
        return said[0][0]

    def run_worker(self, worker: Path, ranks: int, *arguments: str) -> dict[str, Any]:
        """The JSON after `RESULT ` that rank 0 of `worker` prints."""
        lines = self.run_ranks(worker, ranks, *arguments).splitlines()
        (result,) = [line for line in lines if line.startswith("RESULT ")]
        return json.loads(result.removeprefix("RESULT "))


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _import_libraries() -> None:
    """Import what a run needs, and do once what takes seconds the first time, for all forks."""
    import torch

    torch.set_num_threads(1)  # threads would be missing in the forks, which would wait for them
    if not torch.cuda.is_available():  # as `bootstrap` says to DeepSpeed
        os.environ["DS_ACCELERATOR"] = "cpu"
    for name in PRELOADED:
        importlib.import_module(name)
    from models.build import build_model
    from models.cost import model_cost
    from models.dealt_paths import DealtPaths

    model = build_model("dynamixer_nano", num_classes=10, drop_path_rate=0.1)
    model_cost(model, "dynamixer_nano")
    DealtPaths(model)


def _serve() -> str:
    """Fork as asked until the tests end; returns in forks alone, the program that each is to be."""
    running: set[int] = set()
    for line in sys.stdin:
        asked = json.loads(line)
        if "ended" in asked:
            pid, status = os.waitpid(asked["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        elif answer := os.fork():
            running.add(answer)
        else:
            return _become(**asked)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)  # taking all that was imported down in order takes a second


def _become(program: list[str], environment: dict[str, str], outputs: list[str]) -> str:
    os.setsid()
    for number, path in enumerate((os.devnull, *outputs)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = program
    return program[0]


if __name__ == "__main__":
    _import_libraries()
    runpy.run_path(_serve(), run_name="__main__")
