"""One process, or one launcher with its ranks, of a run that is to be killed; see `chaos`."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).parents[1]
RUN_NAME = "run"
EPOCH_STEPS = 30
AIMS = {"start-up": 0.15, "step": 0.35, "save": 0.5}
"""At what a kill is aimed, and how often."""
START_UP_S, STEP_S, SAVE_S = 12.0, 0.3, 0.08
"""Kills aimed at these come up to so many seconds after they have begun."""
PATIENCE_S, FAREWELL_S = 600.0, 120.0
"""How long an attempt may take to get where it is killed; how long its other processes may last."""


class RunFailedError(RuntimeError):
    """A run that nobody killed has failed; the message has its last words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """Who is to be killed when.

    Attributes:
        number: of the kill, from 0.
        victim: `launcher` or `rank N`.
        aim: a key of `AIMS`.
        steps: to be done before, in this attempt.
        delay_s: seconds from the beginning of what is aimed at.
    """

    number: int
    victim: str
    aim: str
    steps: int
    delay_s: float


def plan_kill(*, seed: int, ranks: int, number: int, steps_left: int, kills_left: int) -> Kill:
    """Draw a kill, such that the run's last steps are about where its last kill comes."""
    draws = random.Random(f"{seed} {ranks} {number}")
    victim = draws.choice(["rank 0"] if ranks == 1 else ["launcher", "rank 0", "rank 1"])
    [aim] = draws.choices(list(AIMS), weights=list(AIMS.values()))
    longest = {"start-up": START_UP_S, "step": STEP_S, "save": SAVE_S}[aim]
    steps = draws.randint(1, max(1, 2 * steps_left // (kills_left + 1)))
    return Kill(
        number=number, victim=victim, aim=aim, steps=steps, delay_s=draws.uniform(0, longest)
    )


def newest_step(folder: Path) -> int:
    """Steps of the newest checkpoint of a run; 0 if there is none."""
    found = (folder / RUN_NAME / "checkpoints").glob("step_*[0-9]")
    return max((int(path.name.removeprefix("step_")) for path in found), default=0)


class Attempt:
    """The run's command, started; leaving the context ends all of its processes."""

    def __init__(self, scratch: Path, folder: Path, *, ranks: int) -> None:
        """Start `ranks` ranks on the recipe in `scratch`; the run lies in `folder`."""
        self._run = folder / RUN_NAME
        self._log_before = self._log_number()
        self._steps_before = newest_step(folder)
        self._left_behind = self._unfinished()
        self._began = time.monotonic()
        launcher = [sys.executable]
        if ranks > 1:
            launcher += ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
            launcher += ["--master-port", str(_free_port())]
        command = [*launcher, str(ROOT / "launch.py"), "--config", str(scratch / "recipe.yaml")]
        self._errors = (scratch / "stderr.txt").open("w+")
        self._process = psutil.Popen(
            [*command, f"run.root={folder}", f"data.root={scratch / 'digits'}"],
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        self._ranks = ranks

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(self._everybody())
        self._errors.close()

    def run_to_the_end(self) -> None:
        """Wait until the run is complete.

        Raises:
            RunFailedError: if it ends otherwise.
        """
        if self._process.wait() != 0:
            raise RunFailedError(self._last_words())

    def carry_out(self, kill: Kill) -> dict[str, object] | None:
        """Wait for the moment, kill, and wait for the others to end; None if the run ended before.

        Raises:
            RunFailedError: if the run failed before.
        """
        if not self._wait_for_moment(kill):
            if self._process.wait() != 0:
                raise RunFailedError(self._last_words())
            return None
        everybody = self._everybody()
        victim, process = self._find(kill.victim)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        step, phase = self._step_and_phase()
        outlived = self._end(everybody, patience_s=FAREWELL_S)
        return {
            **asdict(kill),
            "victim": victim,
            "step": step,
            "phase": phase,
            "after_s": round(killed - self._began, 3),
            "wall_s": round(time.monotonic() - self._began, 3),
            "outlived": outlived,
        }

    def _wait_for_moment(self, kill: Kill) -> bool:
        """Return at the moment of the kill: True; or when the run has ended: False."""
        if kill.aim != "start-up" and not self._poll(lambda: self._steps() >= kill.steps, 0.005):
            return False
        if kill.aim == "save" and not self._poll(self._is_saving, 0.001):
            return False
        time.sleep(kill.delay_s)
        return self._process.poll() is None

    def _poll(self, condition: Callable[[], bool], pause_s: float) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if self._process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise RunFailedError(f"not where to kill it after {PATIENCE_S:.0f} s")
            time.sleep(pause_s)
        return True

    def _log_number(self) -> int:
        """The log file's number: a run that begins or goes on writes another file."""
        log = self._run / "metrics.jsonl"
        return log.stat().st_ino if log.exists() else 0

    def _last_event(self) -> tuple[str, int]:
        """Kind and step of the newest line of this attempt; its start if there is none yet.

        The log is cut back to where the run goes on from before anything is added to it.
        """
        if self._log_number() != self._log_before:
            for line in reversed((self._run / "metrics.jsonl").read_text().splitlines()):
                with contextlib.suppress(ValueError):  # being written
                    event = json.loads(line)
                    return event["event"], event["step"]
        return "start", self._steps_before

    def _steps(self) -> int:
        """Steps that this attempt has logged."""
        return self._last_event()[1] - self._steps_before

    def _unfinished(self) -> set[tuple[str, int]]:
        """Names of checkpoints that are being written or deleted, each with a stamp."""
        found: set[tuple[str, int]] = set()
        for path in (self._run / "checkpoints").glob("step_*.*"):
            with contextlib.suppress(FileNotFoundError):
                found.add((path.name, path.stat().st_ctime_ns))
        return found

    def _is_saving(self) -> bool:
        return bool(self._unfinished() - self._left_behind)

    def _step_and_phase(self) -> tuple[int, str]:
        """The last logged step, and what the run was doing, as its folder tells."""
        kind, step = self._last_event()
        working_on = [name for name, _ in self._unfinished() - self._left_behind]
        if self._steps() <= 0:
            return step, "start-up"
        if any(int(name[5:13]) > newest_step(self._run.parent) for name in working_on):
            return step, "save"
        if working_on:
            return step, "removal of an old checkpoint"
        evaluates = kind == "eval" or (kind == "step" and step % EPOCH_STEPS == 0)
        return step, "evaluation" if evaluates else "step"

    def _everybody(self) -> list[psutil.Process]:
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _find(self, victim: str) -> tuple[str, psutil.Process]:
        """The process to be killed: the launcher where the rank is not there yet."""
        if self._ranks == 1:
            return "rank 0", self._process
        if victim != "launcher":
            for process in self._everybody()[1:]:
                with contextlib.suppress(psutil.Error):
                    if process.environ().get("RANK") == victim.removeprefix("rank "):
                        return victim, process
        return "launcher", self._process

    def _end(self, processes: list[psutil.Process], patience_s: float = 0.0) -> bool:
        """Wait for all to end; whether some had to be killed after `patience_s`."""
        _, alive = psutil.wait_procs(processes, timeout=patience_s)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive)
        return bool(alive)

    def _last_words(self) -> str:
        self._errors.seek(0)
        return f"exit code {self._process.wait()}: {self._errors.read()[-3000:]}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
