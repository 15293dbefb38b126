"""CIFAR-10 in full by the authors' recipe: ConvMixer-256/8 and SplitMixer-I to IV, 100 epochs each.

    python -m benchmarks.gpu.cifar --output OUT/cifar.json --data FOLDER

FOLDER/cifar10 has train/CLASS/NAME.jpg and test/CLASS/NAME.jpg. Runs and shards lie beside the
output; a run that is told to stop goes on with the next command, as all our runs do. Top-1 beside
the papers' is for the data that FOLDER has: JPEGs lose a little of CIFAR's pixels.

On a CPU it is two steps of ConvMixer on parts of photographs.
"""

import argparse
import json
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.gpu.frame.experiment import Case, Result, UnavailableError, main
from benchmarks.gpu.frame.launched import events_of, launched
from benchmarks.gpu.frame.pictures import jpeg, photographs

PAPER_TOP1 = {
    "convmixer_256_8": 94.17,
    "splitmixer_i_256_8": 93.91,
    "splitmixer_ii_256_8": 92.25,
    "splitmixer_iii_256_8": 92.52,
    "splitmixer_iv_256_8": 93.38,
}
"""In percent, as the authors of SplitMixer report them."""
_SIDE = 32
_ON_CPU = (
    *("batch.global_size=4", "batch.per_gpu=4", "run.max_steps=2", "run.log_every=1"),
    *("precision.dtype=fp32", "data.threads=1"),
)
_ON_GPU = ("run.compile=model", "run.evaluate_every=10", "run.save_every=5")
_BY_THE_HOST = "data.decode=cpu"
"""A GPU gains nothing on images of 32 pixels."""


def train(arguments: argparse.Namespace, model: str) -> Result:
    """Train one model, or go on; its run lies beside the output."""
    on_gpu = arguments.device.type == "cuda"
    beside: Path = arguments.output.resolve().parent / "cifar"
    shards = _shards(arguments.data, beside, on_gpu=on_gpu)
    run, began = beside / "runs" / model, time.perf_counter()
    launched(
        *("launch.py", "--config", f"configs/cifar10/{model}.yaml"),
        *(f"data.root={shards}", f"run.root={run.parent}", f"run.name={model}"),
        *(_ON_GPU if on_gpu else _ON_CPU),
        *((_BY_THE_HOST,) if on_gpu and find_spec("millstream_native") else ()),
        environment=None if on_gpu else {"CUDA_VISIBLE_DEVICES": ""},
    )
    summary = run / "summary.json"
    return {
        "summary": json.loads(summary.read_text("utf-8")) if summary.exists() else None,
        "evaluations": [(event["epoch"], event["top1"]) for event in events_of(run, "eval")],
        "losses": [(event["step"], event["loss"]) for event in events_of(run, "step")],
        "seconds_of_last_process": time.perf_counter() - began,
    }


def _shards(data: Path | None, beside: Path, *, on_gpu: bool) -> Path:
    """Return the data as shards, made beside the output unless they are there."""
    source = data / "cifar10" if data else beside / "small"
    if data and not source.is_dir():
        raise UnavailableError(f"there is no {source}: it should hold train/ and test/")
    if not data and on_gpu:
        raise UnavailableError("--data names no folder with cifar10/train and cifar10/test")
    if not data and not source.exists():
        _write_small(source)
    shards = beside / "shards"
    launched(
        *("-m", "tools.make_shards", str(source)),
        *("--val-folder", "test", "--output", str(shards)),
    )
    return shards


def _write_small(folder: Path) -> None:
    """Write small parts of photographs, a class a photograph."""
    rng = np.random.default_rng(0)
    for name, picture in photographs().items():
        for split in ("train", "test"):
            for number in range(4):
                side = int(rng.integers(_SIDE, min(picture.shape[:2])))
                part = Image.fromarray(picture[:side, :side]).resize((_SIDE, _SIDE))
                path = folder / split / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(np.asarray(part)))


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """Return a case a model."""
    models = list(PAPER_TOP1) if arguments.device.type == "cuda" else list(PAPER_TOP1)[:1]
    return {model: partial(train, arguments, model) for model in models}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, cases))
