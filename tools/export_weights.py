"""Copy the weights of a run's newest (or best) checkpoint to one file that timm loads.

python tools/export_weights.py runs/quickstart --output digits.safetensors
timm.create_model("dynamixer_nano", checkpoint_path="digits.safetensors")   # import models first
"""

import argparse
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.storage.files import finish_part, part_path
from trainer.record import checkpoint
from trainer.record.checkpoint import CheckpointError


def main(argv: list[str] | None = None) -> int:
    """Write the file; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--raw", action="store_true", help="the weights, not their EMA")
    parser.add_argument("--best", action="store_true", help="the best evaluated, not the newest")
    arguments = parser.parse_args(argv)
    try:
        source = choose(arguments.run / "checkpoints", best=arguments.best)
    except CheckpointError as error:
        parser.error(str(error))
    average, raw = source / "ema.safetensors", source / "model.safetensors"
    chosen = raw if arguments.raw or not average.exists() else average
    export(chosen, arguments.output, step=checkpoint.read_meta(source).progress.step)
    print(f"{arguments.output}: from {chosen}")
    return 0


def choose(root: Path, *, best: bool) -> Path:
    """The newest whole checkpoint below `root`, or the one that was evaluated best.

    Raises:
        CheckpointError: if there is none.
    """
    chosen = checkpoint.find_best(root) if best else checkpoint.find_latest(root)[0]
    if chosen is None:
        kind = "evaluated checkpoint" if best else "checkpoint"
        raise CheckpointError(f"{root}: no {kind} is there; give the folder of a run")
    return chosen


def export(source: Path, output: Path, *, step: int) -> None:
    """Copy a state_dict with `step` and the kind of weights in its metadata, atomically."""
    with safe_open(source, framework="pt") as file:
        metadata = dict(file.metadata() or {})
    part = part_path(output)
    save_file(load_file(source), part, {**metadata, "weights": source.stem, "step": str(step)})
    finish_part(part)


if __name__ == "__main__":
    raise SystemExit(main())
