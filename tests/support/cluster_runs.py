"""Runs of a small recipe under launchers, and what two of them must have in common."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import make_digits
from trainer.events import TIMINGS

ROOT = Path(__file__).parents[2]
RECIPE = """
model: {{name: dynamixer_nano}}
data: {{crop: {{scale: [0.6, 1.0], hflip: 0.5}}}}
batch: {{global_size: 40, per_gpu: {per_gpu}, evaluation: 50}}
optim: {{lr: 2.0e-3}}
schedule: {{epochs: 2, warmup_epochs: 1}}
augment: {{mixup: 0.2, cutmix: 1.0}}
ema: {{decay: 0.9}}
run: {{log_every: 1, keep_checkpoints: 1, save_every_steps: {save_every_steps}, watchdog_s: 300}}
"""


class Files:
    """A folder with a recipe, `tiny.yaml`, and a part of the handwritten digits."""

    def __init__(
        self, folder: Path, *, images: int, per_gpu: int = 20, save_every_steps: int = 0
    ) -> None:
        self.recipe, self.digits = folder / "tiny.yaml", folder / "digits"
        self.recipe.write_text(RECIPE.format(per_gpu=per_gpu, save_every_steps=save_every_steps))
        make_digits.main([str(self.digits)])
        paths = sorted((self.digits / "train").rglob("*.jpg"), key=lambda path: path.name)
        for path in paths[images:]:
            path.unlink()

    def arguments(self, runs: Path) -> tuple[str, ...]:
        """What `launch.py` is told for a run below `runs`."""
        return ("--config", str(self.recipe), f"data.root={self.digits}", f"run.root={runs}")

    def torchrun(self, runs: Path, *options: str) -> list[str]:
        """The command for two ranks under one torchrun."""
        return [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-port", free_port(), *options),
            *(str(ROOT / "launch.py"), *self.arguments(runs)),
        ]

    def undisturbed(self, runs: Path) -> Path:
        """Run it on two ranks of this machine; return `runs`."""
        command = self.torchrun(runs)
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment())
        return runs


def environment() -> dict[str, str]:
    """This environment, with the programs of the tests' own Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def events(runs: Path, kind: str) -> list[dict[str, float]]:
    """Events of a run without their timings."""
    path = runs / "tiny" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    parsed = [json.loads(line) for line in lines if line.endswith("}")]
    chosen = [event for event in parsed if event["event"] == kind]
    return [{k: v for k, v in event.items() if k not in TIMINGS} for event in chosen]


def wait_for_step(
    runs: Path,
    step: int,
    *,
    said: Callable[[], str],
    launcher: subprocess.Popen | None = None,
    timeout_s: float = 900.0,
) -> None:
    """Return when the run has logged `step`; where it does not, show what was `said`."""
    deadline = time.monotonic() + timeout_s
    while not any(event["step"] >= step for event in events(runs, "step")):
        assert time.monotonic() < deadline, said()
        assert launcher is None or launcher.poll() is None, said()
        time.sleep(0.05)


def assert_same_run(mine: Path, theirs: Path, *, tolerance: float = 0.0) -> None:
    """Compare all steps and evaluations of two runs; floats by a relative `tolerance`."""
    for kind in ("step", "eval"):
        assert events(theirs, kind)
        for here, there in zip(events(mine, kind), events(theirs, kind), strict=True):
            assert here.keys() == there.keys()
            for name, value in here.items():
                is_float = isinstance(value, float)
                expected = pytest.approx(there[name], rel=tolerance) if is_float else there[name]
                assert value == expected
