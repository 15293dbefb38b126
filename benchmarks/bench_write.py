"""How fast shards are written, against peers and against the limit, interleaved.

    python -m benchmarks.bench_write FOLDER [--rounds 7] [--scratch DIR] [--json FILE]

FOLDER is a folder of class folders with JPEGs, a split of a data set. Every peer reads its files
(page cache warm) and writes them into an empty folder of --scratch: of a disk, or of memory
(/dev/shm), where bringing files to the disk costs nothing. The limit of a pass-through is to read
each file and append it to one large file, and to bring that to the disk, as millstream does and no
other peer. The limit of re-encoding is libjpeg-turbo with no program around it: bytes in memory,
decode, resize, encode, nothing written. Rates are images per second of CPU time, user and system,
of the process and its children, because others use the machine; wall time is recorded too. Ratios
are medians over rounds of the ratio within a round. img2dataset, which needs older versions of what
we use, is run from an environment of its own if --img2dataset names its Python.
"""

import argparse
import gc
import json
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal

from benchmarks.machine import machine
from benchmarks.write_peers import (
    Input,
    Job,
    all_cores,
    img2dataset,
    pass_through,
    re_encoding,
    repeated,
)

LIMIT = "copy, brought to the disk"
CODEC = "libjpeg-turbo and OpenCV alone"
PEER = "webdataset ShardWriter"
_REPEATED = 20

Clock = Literal["cpu", "wall"]
Rates = dict[str, dict[str, list[float]]]


def timed(job: Job, out: Path) -> tuple[float, float]:
    """Return wall and CPU seconds of `job` into the empty folder `out`."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    gc.collect()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    job(out)
    return time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(jobs: dict[str, Job], images: int, rounds: int, out: Path) -> Rates:
    """Return the rates of each job in each round; the first round warms up and is not counted."""
    rates: Rates = {n: {"cpu": [], "wall": []} for n in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            wall, cpu = timed(job, out)
            if number:
                rates[name]["cpu"].append(round(images / cpu, 1))
                rates[name]["wall"].append(round(images / wall, 1))
    return rates


def table(rates: Rates, limit: str, peer: str, clock: Clock = "cpu") -> list[str]:
    """Return a Markdown table: rates, and medians of the ratios to `limit` and `peer`."""
    lines = [f"| | images/s of {clock} time | of {limit} | x {peer} |", "|---|---:|---:|---:|"]
    for name, rate in rates.items():
        cells = [f"{statistics.median(rate[clock]):,.0f}"]
        cells += [f"{median_ratio(rates, name, base, clock):.2f}" for base in (limit, peer)]
        if "FFCV" in name and clock == "cpu":  # it never waits for its workers: theirs is missing
            cells = [""] * 3
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def median_ratio(rates: Rates, name: str, base: str, clock: Clock) -> float:
    """Return how many times as fast as `base` a program is."""
    pairs = zip(rates[name][clock], rates[base][clock], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recode-folder", type=Path, help="for re-encoding, if another")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scratch", type=Path, help="where to write; default: the system's")
    parser.add_argument("--img2dataset", type=Path, metavar="PYTHON", help="that can import it")
    parser.add_argument("--pass-through-only", action="store_true")
    parser.add_argument("--json", type=Path, help="write the raw rates to this file")
    arguments = parser.parse_args(argv)
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        out = Path(scratch) / "out"
        source = Input(arguments.folder)
        facts = {"images": len(source.scan), "bytes": int(source.scan.sizes.sum())}
        result["about"] = machine() | facts
        print(json.dumps(result["about"], indent=1))
        jobs = pass_through(source)
        if arguments.img2dataset:
            jobs["img2dataset"] = img2dataset(source, arguments.img2dataset)
        rates = result["pass-through"] = compare(jobs, len(source.scan), arguments.rounds, out)
        print("\n".join(table(rates, LIMIT, PEER)))
        if not arguments.pass_through_only:
            rounds = max(1, arguments.rounds // 2)
            # Links lie on the disk of what they link to.
            with tempfile.TemporaryDirectory(dir=arguments.folder.parent) as links:
                large = repeated(source, _REPEATED, Path(links))
                jobs = all_cores(large)
                rates = result["all cores"] = compare(jobs, len(large.scan), rounds, out)
            print("\n".join(table(rates, LIMIT, PEER, "wall")))
            recoded = Input(arguments.recode_folder or arguments.folder)
            jobs = re_encoding(recoded)
            rates = compare(jobs, len(recoded.scan), arguments.rounds, out)
            result["re-encoding"] = rates
            print(
                "\n".join(table(rates, CODEC if CODEC in rates else "Pillow alone", "Pillow alone"))
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
