"""What a run's report costs: seconds of the first rank at each evaluation.

    python -m benchmarks.bench_report RUN [--output FILE]

RUN is the folder of a run whose data is here. Its validation images are judged by made-up numbers,
since the cost does not depend on what the model says; the worst mistakes are read and decoded.
Work is done in a copy of the run's small files.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import machine
from pipeline.formats.open import open_split
from trainer.record.report.files import read_run
from trainer.record.report.judged import Judged
from trainer.record.report.kept import keep_evaluation
from trainer.record.report.page import page

REPEATS = 7


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    recipe = read_run(arguments.run).recipe
    assert recipe is not None, "the recipe of the run cannot be read"
    source = open_split(recipe.data, "val")
    generator = np.random.default_rng(0)
    labels = np.asarray(source.labels, np.int64)
    share = generator.random(len(labels), np.float32)
    judged = Judged(
        samples=np.arange(len(labels)),
        labels=labels,
        predicted=generator.integers(0, len(source.classes), len(labels)),
        confidence=share,
        right=1 - share,
    )
    where = {"step": 1, "epoch": 0, "ema": True}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "run")
        ignored = shutil.ignore_patterns("*.safetensors", "tensorboard", "report.html")
        shutil.copytree(arguments.run, copy, ignore=ignored)
        keep = timed(lambda: keep_evaluation(copy, judged, source, source.classes, **where))
        write = timed(
            lambda: (copy / "report.html").write_text(page([read_run(copy)]), encoding="utf-8")
        )
        size = (copy / "report.html").stat().st_size
    logits = torch.randn(256, 1000)
    result = {
        "images": len(labels),
        "classes": len(source.classes),
        "events": len(read_run(arguments.run).events),
        "keep_evaluation_s": keep,
        "write_page_s": write,
        "page_bytes": size,
        "softmax_256x1000_s": timed(lambda: logits.softmax(1).max(1)),
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Median wall and processor seconds of `REPEATS` runs, and the first's."""
    walls, processors = [], []
    for _ in range(REPEATS):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return {
        "wall_s": statistics.median(walls),
        "processor_s": statistics.median(processors),
        "first_wall_s": walls[0],
    }


if __name__ == "__main__":
    main()
