"""A real run of DynaMixer-S by its recipe, fed from JPEGs: images/s, and waiting for data.

    python -m benchmarks.gpu.end_to_end --output OUT/end_to_end.json --data FOLDER

`launch.py` on class folders of photographs, each linked many times: reading, decoding, cropping,
RandAugment, mixing, erasing, bf16, compiled blocks, the average of the weights. The log events in
which blocks are compiled do not count. FOLDER/images has one's own photographs.

On a CPU it is a few steps of the smallest DynaMixer.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.gpu.frame.experiment import Case, Result, main
from benchmarks.gpu.frame.launched import launched, speed_of
from benchmarks.gpu.frame.pictures import image_folder

BATCH = 256
_ON_GPU = (
    *(f"batch.global_size={BATCH}", f"batch.per_gpu={BATCH}", "schedule.epochs=50"),
    *("schedule.warmup_epochs=1", "schedule.cooldown_epochs=0", "run.evaluate_every=50"),
    *("run.save_every=50", "run.max_steps=320", "run.log_every=20"),
)
_ON_CPU = (
    *("model.name=dynamixer_nano", "batch.global_size=4", "batch.per_gpu=4", "run.max_steps=4"),
    *("run.log_every=1", "run.compile=none", "precision.dtype=fp32", "data.threads=1"),
)
SETTINGS: dict[str, tuple[str, ...]] = {
    "decoded on the GPU": (),
    "decoded by the host": ("data.decode=cpu",),
    "decoded on the GPU, with the fused kernels": (),
}
_KERNELS = "MILLSTREAM_KERNELS"


def train(arguments: argparse.Namespace, name: str) -> Result:
    """Train for some steps."""
    on_gpu = arguments.device.type == "cuda"
    environment = {_KERNELS: "1" if "kernels" in name else "0"}
    if not on_gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "data")
        image_folder(arguments.data, data / "train", at_least=10_000 if on_gpu else 16)
        image_folder(arguments.data, data / "val", at_least=2 * BATCH if on_gpu else 4)
        launched(
            *("launch.py", "--config", "configs/dynamixer_s.yaml"),
            *(f"data.root={data}", f"run.root={scratch}/runs", "run.name=run"),
            *(_ON_GPU if on_gpu else _ON_CPU),
            *(SETTINGS[name] if on_gpu else ("data.loader=dali",)),
            environment=environment,
        )
        batch, skip = (BATCH, 4) if on_gpu else (4, 1)
        return speed_of(Path(scratch, "runs", "run"), batch=batch, skip=skip)


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """Return a case a setting."""
    names = list(SETTINGS) if arguments.device.type == "cuda" else list(SETTINGS)[:1]
    return {name: partial(train, arguments, name) for name in names}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, cases))
