"""How fast shards are written, against peers and against the limit, interleaved.

    python benchmarks/bench_write.py FOLDER [--rounds 7] [--scratch DIR] [--json FILE]

FOLDER is a folder of class folders with JPEGs. Every peer reads its files (page cache warm) and
writes them into an empty folder. The limit of a pass-through is to read each file and append it to
one large file, and to bring that to the disk, as millstream does and no other peer. The limit of
re-encoding is libjpeg-turbo with no program around it: bytes in memory, decode, resize, encode,
nothing written. Rates are images per second of CPU time, user and system, of the process and its
children, because others use the machine; wall time is recorded too. Ratios are medians over rounds
of the ratio within a round.
"""

import argparse
import gc
import io
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image, features

from pipeline.formats.class_folders import scan_class_folders
from pipeline.formats.conversion import Conversion, convert
from pipeline.formats.image_header import read_header
from pipeline.formats.intake import IntakeConfig
from pipeline.formats.recode import RecodeConfig
from pipeline.formats.shard_writer import WriteConfig
from pipeline.formats.workers import run_in_processes

SHORT_SIDE, QUALITY = 400, 90
SHARD_BYTES = 256_000_000

Job = Callable[[Path], object]


class Input:
    """The files of a folder, listed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scan = scan_class_folders(folder)
        locations = [self.scan.location(i) for i in range(len(self.scan))]
        self.samples = [
            (str(folder / place), key, label)
            for place, key, label in zip(
                locations, self.scan.keys.to_pylist(), self.scan.labels.tolist(), strict=True
            )
        ]


def copy(source: Input, sync: bool, out: Path) -> None:
    with (out / "copy").open("wb", buffering=0) as target:
        for path, _, _ in source.samples:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (no overhead wanted)
                target.write(file.read())
        if sync:
            os.fsync(target.fileno())


def ours(source: Input, writing: WriteConfig, out: Path, workers: int = 1) -> None:
    conversion = Conversion(scan=source.scan, folder=out / "train", split="train", writing=writing)
    run = partial(run_in_processes, workers=workers)
    convert(conversion, lambda images, size_bytes: None, run=run)


def shard_writer(source: Input, mtime: float | None, out: Path) -> None:
    pattern = str(out / "train-%06d.tar")
    with webdataset.ShardWriter(pattern, maxsize=SHARD_BYTES, verbose=0, mtime=mtime) as sink:
        for path, key, label in source.samples:
            sink.write({"__key__": key, "jpg": Path(path).read_bytes(), "cls": label})


def python_tarfile(source: Input, out: Path) -> None:
    with tarfile.open(out / "train.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for path, key, label in source.samples:
            members = {"jpg": Path(path).read_bytes(), "cls": str(label).encode()}
            for extension, data in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def gnu_tar(source: Input, out: Path) -> None:
    names = "\n".join(os.path.relpath(path, source.folder) for path, _, _ in source.samples)
    command = ["tar", "--format=ustar", "-cf", str(out / "train.tar"), "-C", str(source.folder)]
    subprocess.run([*command, "-T", "-"], input=names.encode(), check=True)


def ffcv_writer(source: Input, out: Path) -> None:
    """FFCV's DatasetWriter, told to keep the JPEG bytes."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    image = RGBImageField(write_mode="jpg")
    image.encode = partial(_keep_bytes, image)
    fields = {"image": image, "label": IntField()}
    writer = DatasetWriter(str(out / "train.beton"), fields, num_workers=1)
    writer.from_indexed_dataset(_FfcvSamples(source), chunksize=100)


class _FfcvSamples:
    def __init__(self, source: Input) -> None:
        self.samples = source.samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        path, _, label = self.samples[index]
        return Path(path).read_bytes(), label


def _keep_bytes(field, destination, data, allocate):
    header = read_header(data)
    destination["mode"], destination["width"], destination["height"] = (
        0,
        header.width,
        header.height,
    )
    destination["data_ptr"], storage = allocate(len(data))
    storage[:] = np.frombuffer(data, np.uint8)


def codec_pillow(source: Input, out: Path) -> None:
    """Pillow alone, without checks, headers, files or shards."""
    for data in contents(source):
        with Image.open(io.BytesIO(data)) as image:
            picture = image.convert("RGB")
        scale = min(1.0, SHORT_SIDE / min(picture.size))
        if scale < 1:
            size = tuple(round(side * scale) for side in picture.size)
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        picture.save(io.BytesIO(), "JPEG", quality=QUALITY)


def codec_turbo(source: Input, out: Path) -> None:
    """libjpeg-turbo through OpenCV, which is the nearest to it in Python; area resampling."""
    import cv2

    cv2.setNumThreads(1)
    for data in contents(source):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        height, width = picture.shape[:2]
        scale = min(1.0, SHORT_SIDE / min(height, width))
        if scale < 1:
            size = (round(width * scale), round(height * scale))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


_CONTENTS: dict[Path, list[bytes]] = {}


def contents(source: Input) -> list[bytes]:
    """Return the bytes of a part of the files, read once; re-encoding is slow."""
    if source.folder not in _CONTENTS:
        _CONTENTS[source.folder] = [Path(p).read_bytes() for p, _, _ in source.samples]
    return _CONTENTS[source.folder]


def pass_through(source: Input) -> dict[str, Job]:
    plain = partial(WriteConfig, checksums=False)
    return {
        "copy, brought to the disk (limit)": partial(copy, source, True),  # noqa: FBT003
        "copy, left in memory": partial(copy, source, False),  # noqa: FBT003
        "millstream, no checksums": partial(ours, source, plain()),
        "millstream": partial(ours, source, WriteConfig()),
        "webdataset ShardWriter": partial(shard_writer, source, None),
        "webdataset ShardWriter, mtime=0": partial(shard_writer, source, 0.0),
        "tarfile, ustar": partial(python_tarfile, source),
        "GNU tar (no labels)": partial(gnu_tar, source),
        "FFCV writer, JPEG kept (wall only)": partial(ffcv_writer, source),
    }


def all_cores(source: Input) -> dict[str, Job]:
    """Whole programs with the processes that they can use; only wall time counts."""
    cores = len(os.sched_getaffinity(0))
    return {
        f"millstream, {cores} processes": partial(ours, source, WriteConfig(), workers=cores),
        "webdataset ShardWriter": partial(shard_writer, source, None),
    }


def re_encoding(source: Input) -> dict[str, Job]:
    recode = RecodeConfig(resize=SHORT_SIDE, quality=QUALITY)
    writing = WriteConfig(intake=IntakeConfig(recode=recode))
    contents(source)
    jobs: dict[str, Job] = {"Pillow alone": partial(codec_pillow, source)}
    try:
        metadata.version("opencv-python")
        jobs["libjpeg-turbo and OpenCV alone (limit)"] = partial(codec_turbo, source)
    except metadata.PackageNotFoundError:
        print("no OpenCV: no limit of re-encoding")
    return {**jobs, "millstream --resize": partial(ours, source, writing)}


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


def compare(
    jobs: dict[str, Job], images: int, rounds: int, out: Path
) -> dict[str, dict[str, list[float]]]:
    """Return the rates of each job in each round; the first round warms up and is not counted."""
    rates: dict[str, dict[str, list[float]]] = {n: {"cpu": [], "wall": []} for n in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            wall, cpu = timed(job, out)
            if number:
                rates[name]["cpu"].append(round(images / cpu, 1))
                rates[name]["wall"].append(round(images / wall, 1))
    return rates


def table(rates: dict[str, dict[str, list[float]]], limit: str, peer: str) -> list[str]:
    """Return a Markdown table: rates, and medians of the ratios to `limit` and `peer`."""
    lines = [
        f"| | images/s of CPU | of {limit} | x {peer} | images/s, wall |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, rate in rates.items():
        cpu, wall = (statistics.median(rate[kind]) for kind in ("cpu", "wall"))
        if "wall only" in name:  # its workers are never waited for, so their time is not counted
            lines.append(f"| {name} | | | | {wall:,.0f} |")
            continue
        ratios = [
            statistics.median(a / b for a, b in zip(rate["cpu"], rates[base]["cpu"], strict=True))
            for base in (limit, peer)
        ]
        lines.append(f"| {name} | {cpu:,.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} | {wall:,.0f} |")
    return lines


def machine() -> dict[str, object]:
    """Return what figures depend on."""
    versions = {name: metadata.version(name) for name in ("numpy", "Pillow", "webdataset")}
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "libjpeg-turbo of Pillow": features.version("libjpeg_turbo"),
        **versions,
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recode-folder", type=Path, help="for re-encoding, if another")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scratch", type=Path, help="where to write; default: the system's")
    parser.add_argument("--json", type=Path, help="write the raw rates to this file")
    arguments = parser.parse_args(argv)
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        out = Path(scratch) / "out"
        source = Input(arguments.folder)
        facts = {"images": len(source.scan), "bytes": int(source.scan.sizes.sum())}
        result["about"] = machine() | facts
        print(json.dumps(result["about"], indent=1))
        rates = compare(pass_through(source), len(source.scan), arguments.rounds, out)
        print(
            "\n".join(table(rates, "copy, brought to the disk (limit)", "webdataset ShardWriter"))
        )
        result["pass-through"] = rates
        rates = compare(all_cores(source), len(source.scan), arguments.rounds, out)
        print("\n".join(table(rates, "webdataset ShardWriter", "webdataset ShardWriter")))
        result["all cores"] = rates
        recoded = Input(arguments.recode_folder or arguments.folder)
        rates = compare(re_encoding(recoded), len(recoded.scan), arguments.rounds, out)
        limit = "libjpeg-turbo and OpenCV alone (limit)"
        print("\n".join(table(rates, limit if limit in rates else "Pillow alone", "Pillow alone")))
        result["re-encoding"] = rates
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
