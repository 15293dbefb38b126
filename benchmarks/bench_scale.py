"""Time and memory of a data set as large as ImageNet: listing it, planning it, converting it.

    python -m benchmarks.bench_scale [--images 1300000] [--scratch DIR] [--convert] [--json FILE]

Generates the names of ImageNet (1,000 class folders) as hard links to a few small JPEGs, with a
warm cache, and lists them in a fresh process; with --convert it also runs the whole of make_shards
on them, to shards and to an FFCV file. Memory is the resident set; of the whole program without the
pages of mapped files, which the system takes back when it needs them.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.machine import machine

_CLASSES = 1000
_SAMPLE_S = 0.1
_LINKS_OF_A_FILE = 30_000  # ext4 allows 65,000

_SCAN = """
import json, sys, time
from pathlib import Path
from pipeline.formats.class_folders import scan_class_folders
from pipeline.prepare.conversion.plan import PlanConfig, plan_shards
start = time.perf_counter()
scan = scan_class_folders(Path(sys.argv[1]))
scanned = time.perf_counter()
plan = plan_shards(scan.sizes, PlanConfig())
planned = time.perf_counter()
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
print(json.dumps({"images": len(scan), "problems": len(scan.problems), "scan_s": scanned - start,
                  "plan_s": planned - scanned, "peak_bytes": peak}))
"""


def generate(root: Path, images: int) -> None:
    """Write the folder."""
    rng = np.random.default_rng(0)
    originals: list[Path] = []
    for number in range(images):
        if number % _LINKS_OF_A_FILE == 0:
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).resize((64, 48)).save(buffer, "JPEG")
            originals.append(root / f"original{len(originals)}.jpg")
            originals[-1].write_bytes(buffer.getvalue())
        label = number % _CLASSES
        folder = root / "images" / "train" / f"n{label + 1_440_764:08d}"
        if number < _CLASSES:
            folder.mkdir(parents=True)
        os.link(originals[-1], folder / f"{folder.name}_{number}.JPEG")


def convert(command: list[str]) -> dict[str, object]:
    """Run the tool; memory is sampled, of the main process and the largest worker."""
    start, peaks = time.perf_counter(), {"main": 0, "worker": 0, "main_with_files": 0}
    process = psutil.Popen(command, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = process.memory_info()
            peaks["main_with_files"] = max(peaks["main_with_files"], memory.rss)
            peaks["main"] = max(peaks["main"], memory.rss - memory.shared)
            for child in process.children():
                memory = child.memory_info()
                peaks["worker"] = max(peaks["worker"], memory.rss - memory.shared)
        time.sleep(_SAMPLE_S)
    [split] = json.loads(process.stdout.read())["splits"]
    return {"total_s": time.perf_counter() - start, "peak_bytes": peaks, **split}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_300_000)
    parser.add_argument("--scratch", type=Path, help="where to write; default: the system's")
    parser.add_argument("--convert", action="store_true", help="convert them, too")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        generate(Path(scratch), arguments.images)
        source = Path(scratch) / "images"
        result: dict[str, object] = {"machine": machine()}
        command = [sys.executable, "-c", _SCAN, str(source / "train")]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        result["listing"] = json.loads(done.stdout)
        if arguments.convert:
            command = [sys.executable, "-m", "tools.make_shards", str(source), "--split", "train"]
            command += ["--json", "--output", f"{scratch}/out"]
            result["conversion"] = convert(command)
            result["ffcv"] = convert([*command[:-1], f"{scratch}/ffcv", "--format", "ffcv"])
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
