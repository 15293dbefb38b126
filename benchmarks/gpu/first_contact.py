"""Does anything run at all? The digits of the quickstart, from pictures to a trained model.

    python -m benchmarks.gpu.first_contact --output OUT/first_contact.json

The recipe of the quickstart in bf16, compiled block by block, through `launch.py`, as a user starts
it. On a CPU it is a few steps in fp32, not compiled.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.gpu.frame.experiment import Case, Result, main
from benchmarks.gpu.frame.launched import events_of, launched

_ON_CPU = ("precision.dtype=fp32", "run.compile=none", "run.max_steps=4", "run.log_every=2")
_ON_GPU = ("precision.dtype=bf16", "run.compile=blocks", "schedule.epochs=10")


def train(arguments: argparse.Namespace) -> Result:
    """Make the digits, convert them, train."""
    with tempfile.TemporaryDirectory() as scratch:
        digits, shards = f"{scratch}/digits", f"{scratch}/shards"
        launched("-m", "tools.make_digits", digits)
        launched("-m", "tools.make_shards", digits, "--output", shards)
        began = time.perf_counter()
        launched(
            *("launch.py", "--config", "configs/quickstart.yaml"),
            *(f"data.root={shards}", f"run.root={scratch}/runs", "run.name=digits"),
            *(_ON_GPU if arguments.device.type == "cuda" else _ON_CPU),
            environment=None if arguments.device.type == "cuda" else {"CUDA_VISIBLE_DEVICES": ""},
        )
        seconds, run = time.perf_counter() - began, Path(scratch, "runs", "digits")
        steps, summary = events_of(run, "step"), run / "summary.json"
        return {
            "seconds": seconds,
            "steps": steps[-1]["step"],
            "first_loss": steps[0]["loss"],
            "last_loss": steps[-1]["loss"],
            "images_per_s": steps[-1]["images_per_s"],
            "summary": json.loads(summary.read_text("utf-8")) if summary.exists() else None,
        }


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """Return the one case."""
    return {"quickstart": partial(train, arguments)}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, cases))
