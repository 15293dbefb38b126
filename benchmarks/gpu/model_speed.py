"""Models beside the plain transcriptions of their papers, as `bench_model` times them.

    python -m benchmarks.gpu.model_speed --output OUT.json --only "vip_s7, bf16, inference"

"bf16" has all weights in bf16, which is the least that can be moved; "autocast" is what a recipe
trains; "contiguous" is not channels-last, and "kernels" has the fused kernels on. A case is one
process of `benchmarks.bench_model`, whose raw results it keeps.

On a CPU it is the smallest DynaMixer.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.gpu.frame.experiment import Case, Result, main
from benchmarks.gpu.frame.launched import launched
from benchmarks.gpu.model_runs import RUNS, Run

_ROUNDS = ("--rounds", "3", "--steps", "5")
_ON_CPU = {
    "dynamixer_nano, fp32, inference": Run(
        "dynamixer_nano", "inference", 2, ("--compiled", "blocks")
    )
}


def measure(arguments: argparse.Namespace, run: Run) -> Result:
    """Time one model; return the report of `bench_model`."""
    on_gpu = arguments.device.type == "cuda"
    rounds = _ROUNDS if on_gpu else ("--rounds", "1")
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch, "raw.json")
        launched(
            *("-m", "benchmarks.bench_model", run.model, "--modes", run.mode),
            *("--device", arguments.device.type, "--batch-size", str(run.batch)),
            *(*rounds, *run.options, "--output", str(raw)),
            environment={"MILLSTREAM_KERNELS": str(int(run.kernels))},
        )
        return {**run._asdict(), "report": json.loads(raw.read_text("utf-8"))}


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """Return a case a run."""
    runs = RUNS if arguments.device.type == "cuda" else _ON_CPU
    return {name: partial(measure, arguments, run) for name, run in runs.items()}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, cases))
