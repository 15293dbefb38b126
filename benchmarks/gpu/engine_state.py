"""ZeRO's stages in half precision: does a run that is saved and restored repeat an undisturbed one?

    python -m benchmarks.gpu.engine_state --output OUT/engine_state.json

The worker of the test suite, on the device: six steps undisturbed; three, the state gathered and
put into a new engine, three more; then the state moved to the other stages. Kept are the losses and
norms of all of them, and whether they are equal.

On a CPU it is stage 0 in fp32.
"""

import argparse
import json
from functools import partial

from benchmarks.gpu.frame.experiment import Case, Result, main
from benchmarks.gpu.frame.launched import launched

WORKER = "tests/trainer/zero_state_worker.py"
_MARK = "RESULT "
RUNS = {
    "bf16": ("0123", "bf16", "adamw"),
    "fp16": ("123", "fp16", "adamw"),
    "fp32": ("0123", "fp32", "adamw"),
}


def run(arguments: argparse.Namespace, name: str) -> Result:
    """Run the worker in one precision."""
    on_gpu = arguments.device.type == "cuda"
    said = launched(
        *(WORKER, *(RUNS[name] if on_gpu else ("0", "fp32", "adamw"))),
        environment=None if on_gpu else {"CUDA_VISIBLE_DEVICES": ""},
    )
    (line,) = (line for line in said.splitlines() if line.startswith(_MARK))
    found = json.loads(line.removeprefix(_MARK))
    stages = {key: value for key, value in found.items() if isinstance(value, dict)}
    return {
        "resumed_equals_whole": {k: v["resumed"] == v["whole"] for k, v in stages.items()},
        "same_state": {key: value["same_state"] for key, value in stages.items()},
        "last_loss": {key: value["whole"][-1][0] for key, value in stages.items()},
        "raw": found,
    }


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """Return a case a precision."""
    names = list(RUNS) if arguments.device.type == "cuda" else ["fp32"]
    return {name: partial(run, arguments, name) for name in names}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, cases))
