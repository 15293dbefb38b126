"""What is kept of the run on CIFAR-10: its raw output, the machine and the curves.

    python tools/make_shards.py CIFAR-10 --val-folder test --output shards/cifar10
    python launch.py --config configs/cifar10/splitmixer_ii_256_8.yaml \
        schedule.epochs=6 run.compile=blocks run.name=cifar10_6_epochs
    python -m benchmarks.cifar10.record runs/cifar10_6_epochs

CIFAR-10/{train,test}/CLASS/NAME.jpg are its images as JPEGs. The run can be stopped, and goes on
with the same command. `python -m benchmarks.cifar10.tables` then writes the figures into the pages.
"""

import argparse
import json
from pathlib import Path

from benchmarks.cifar10.tables import CURVES, RESULTS
from benchmarks.machine import machine
from pipeline.storage.files import write_atomically
from tools import plot_run

KEPT = ("metrics.jsonl", "recipe.yaml", "summary.json")


def main(argv: list[str] | None = None) -> int:
    """Copy what is kept of a complete run; returns 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run that is complete, on this machine")
    run: Path = parser.parse_args(argv).run
    missing = [name for name in KEPT if not (run / name).exists()]
    if missing:
        parser.error(f"{run}: has no {', '.join(missing)}; name the folder of a complete run")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        write_atomically(RESULTS / name, (run / name).read_bytes())
    about = json.dumps(machine("torch", "deepspeed", "timm"), indent=1) + "\n"
    write_atomically(RESULTS / "machine.json", about.encode())
    return plot_run.main([str(run), "--output", str(CURVES), "--force"])


if __name__ == "__main__":
    raise SystemExit(main())
