"""Programs that run kernels in Triton's interpreter, which is chosen when Triton is imported."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def interpret(program: Path, seed: int) -> None:
    """Run a comparison, which draws its cases from `seed` and fails where they differ."""
    run = subprocess.run(
        [sys.executable, program, str(seed)],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
