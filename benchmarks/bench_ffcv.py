"""How fast FFCV files are written: FFCV's own writer and make_shards, interleaved.

    python benchmarks/bench_ffcv.py FOLDER [--rounds 5] [--json FILE]

FOLDER is a folder of class folders with RGB JPEGs (FFCV's writer hangs on gray ones). Each writer
runs in a process of its own, whose CPU time, with that of its workers, counts from the moment when
everything is imported; a shared machine makes wall time meaningless. FFCV's writer does less: it
compares nothing, and the times of make_shards include that and SHA-256.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

WORKERS = 2
LONG_SIDE = 400

_START = """
import os, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from functools import partial
import numpy as np
from PIL import Image
from ffcv.fields import IntField, RGBImageField
from ffcv.writer import DatasetWriter
from pipeline.prepare.writers.ffcv_config import FfcvConfig
from pipeline.prepare.conversion.ffcv_conversion import FfcvConversion, run_ffcv
from pipeline.formats.class_folders import scan_class_folders
from pipeline.prepare.conversion.run import convert
from pipeline.images.header import read_header
from pipeline.prepare.writers.job import WriteConfig
scan = scan_class_folders(Path({folder!r}))
out = Path({output!r})
cpu, wall = time.process_time(), time.monotonic()
"""
_THEIRS = """
class Data:
    def __len__(self): return len(scan)
    def __getitem__(self, i):
        data = scan.reader.read(scan.location(int(i)))
        return {picture}, int(scan.labels[i])
def keep(destination, data, malloc):
    header = read_header(data)
    destination["mode"] = 0
    destination["width"], destination["height"] = header.width, header.height
    destination["data_ptr"], storage = malloc(len(data))
    storage[:] = np.frombuffer(data, np.uint8)
field = RGBImageField("jpg", max_resolution={long_side})
{keep}
fields = dict(image=field, label=IntField())
DatasetWriter(str(out / "t.beton"), fields, num_workers={workers}).from_indexed_dataset(Data())
"""
_OURS = """
config = FfcvConfig({config})
conversion = FfcvConversion(scan=scan, folder=out, split="t", beton=config)
convert(conversion, lambda images, size: None, run=run_ffcv(config, {workers}))
"""
_END = """
import multiprocessing
for child in multiprocessing.active_children():
    child.join()
times = os.times()
print(time.process_time() - cpu + times.children_user + times.children_system,
      time.monotonic() - wall)
"""
_OPEN = "np.asarray(Image.open(__import__('io').BytesIO(data)))"


def scripts() -> dict[str, str]:
    """Return what each writer runs, by name."""
    theirs = {"workers": WORKERS, "long_side": LONG_SIDE, "keep": "", "picture": _OPEN}
    kept = {"keep": "field.encode = keep", "picture": "data"}
    jpg = f"mode='jpg', max_resolution={LONG_SIDE}"
    return {
        "FFCV, bytes kept": _THEIRS.format(**{**theirs, **kept}),
        "make_shards, copy": _OURS.format(config="", workers=WORKERS),
        f"FFCV, jpg {LONG_SIDE}": _THEIRS.format(**theirs),
        f"make_shards, jpg {LONG_SIDE}": _OURS.format(config=jpg, workers=WORKERS),
    }


def measure(folder: Path, script: str) -> tuple[float, float]:
    """Return CPU and wall seconds of one run."""
    root = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as output:
        start = _START.format(root=root, folder=str(folder), output=output)
        run = subprocess.run(
            [sys.executable, "-c", start + script + _END],
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
    cpu, wall = map(float, run.stdout.split()[-2:])
    return cpu, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    images = sum(1 for path in arguments.folder.rglob("*") if path.is_file())
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in scripts()}
    for _ in range(arguments.rounds):
        for name, script in scripts().items():
            runs[name].append(measure(arguments.folder, script))
    rates = {
        name: {
            "images_per_cpu_s": round(images / statistics.median(cpu for cpu, _ in times)),
            "images_per_s": round(images / statistics.median(wall for _, wall in times)),
        }
        for name, times in runs.items()
    }
    for name, rate in rates.items():
        print(f"{name:24} {rate['images_per_cpu_s']:8,} /core  {rate['images_per_s']:8,} /s")
    if arguments.json:
        about = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "ffcv": metadata.version("ffcv"),
            "images": images,
            "workers": WORKERS,
            "rates": rates,
            "runs": runs,
            "measured_at": time.strftime("%H:%M"),
        }
        arguments.json.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
