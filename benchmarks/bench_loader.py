"""How fast are loaders? Ours beside what others use, on the same photographs and cores.

    python benchmarks/bench_loader.py IMAGES --output benchmarks/results/loader_speed.json

IMAGES is a folder of class folders with real photographs. Every loader makes batches of 64 training
images (random resized crop to 224 pixels, flip), uint8 unless its name says otherwise, with as many
threads or worker processes as the machine has cores. Each runs in a process of its own; rounds
are interleaved. The first epoch warms up, the following ones count. Since machines are shared, the
figure to compare is images per second of CPU time, over the whole tree of processes.
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
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

import psutil

SIZE = 224
BATCH = 64
COPIES = 5
EPOCHS = 2
THREADS = len(os.sched_getaffinity(0))
PACKAGES = ("torch", "torchvision", "timm", "nvidia-dali-cuda130", "pillow", "numpy")

Epoch = Callable[[int], Iterator[int]]
"""Iterates over an epoch, yielding the number of images in each batch."""


def ours(data: Path, loader: str) -> Epoch:
    import torch

    from pipeline.augment.config import AugmentConfig
    from pipeline.batch import Placement
    from pipeline.config import DataConfig, InputSpec
    from pipeline.formats.open import open_source
    from pipeline.loaders.build import build_loader

    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    built = build_loader(
        open_source(data),
        data=DataConfig(loader="dali" if loader == "dali" else "reference", threads=THREADS),
        augment=AugmentConfig(),
        spec=InputSpec(size=SIZE, mean=mean, std=std, crop_pct=0.875, interpolation="bilinear"),
        batch_size=BATCH,
        accumulation=1,
        placement=Placement(device=torch.device("cpu")),
        seed=0,
        training=True,
    )
    return lambda epoch: (len(batch.labels) for batch in built.batches(epoch))


def ours_dali_shards(folder: Path, shards: Path) -> Epoch:
    return ours(shards / "train", "dali")


def ours_dali_folder(folder: Path, shards: Path) -> Epoch:
    return ours(folder / "train", "dali")


def ours_reference_shards(folder: Path, shards: Path) -> Epoch:
    return ours(shards / "train", "reference")


def dali_file_reader(folder: Path, shards: Path) -> Epoch:
    """DALI's own reader and random crop, as in NVIDIA's ImageNet examples."""
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.base_iterator import LastBatchPolicy
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    @pipeline_def(batch_size=BATCH, num_threads=THREADS, device_id=None)
    def graph():
        data, labels = fn.readers.file(
            file_root=str(folder / "train"), shuffle_after_epoch=True, name="reader"
        )
        images = fn.decoders.image_random_crop(data, random_area=(0.08, 1.0), device="cpu")
        images = fn.resize(images, size=[SIZE, SIZE], interp_type=types.INTERP_LINEAR)
        return fn.flip(images, horizontal=fn.random.coin_flip()), labels

    iterator = DALIGenericIterator(
        [graph()],
        ["images", "labels"],
        reader_name="reader",
        last_batch_policy=LastBatchPolicy.DROP,
        auto_reset=True,
    )
    return lambda _: (len(batch[0]["labels"]) for batch in iterator)


def torchvision_recipe(folder: Path, shards: Path) -> Epoch:
    """The training references' transforms in DataLoader workers: normalised floats."""
    from torch.utils.data import DataLoader
    from torchvision import transforms as T
    from torchvision.datasets import ImageFolder

    steps = [T.RandomResizedCrop(SIZE), T.RandomHorizontalFlip(), T.ToTensor()]
    dataset = ImageFolder(folder / "train", T.Compose([*steps, T.Normalize([0.5] * 3, [0.5] * 3)]))
    loader = DataLoader(
        dataset, BATCH, shuffle=True, num_workers=THREADS, drop_last=True, persistent_workers=True
    )
    return lambda _: (len(labels) for _, labels in loader)


def timm_loader(folder: Path, shards: Path) -> Epoch:
    """The loader of timm's training script, uint8 from its workers."""
    import torch
    from timm.data.dataset_factory import create_dataset
    from timm.data.loader import create_loader

    dataset = create_dataset("", root=str(folder), split="train")
    loader = create_loader(
        dataset,
        input_size=(3, SIZE, SIZE),
        batch_size=BATCH,
        is_training=True,
        color_jitter=None,
        interpolation="bilinear",
        num_workers=THREADS,
        use_prefetcher=True,
        device=torch.device("cpu"),
    )
    loader = loader.loader  # without the prefetcher, which normalises in the main process
    return lambda _: (len(labels) for _, labels in loader)


PEERS = {
    "ours: DALI, shards": ours_dali_shards,
    "ours: DALI, folder": ours_dali_folder,
    "DALI file reader": dali_file_reader,
    "ours: reference (PIL threads), shards": ours_reference_shards,
    "timm, uint8": timm_loader,
    "torchvision recipe, float": torchvision_recipe,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help="folder of class folders")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="append", choices=PEERS, help="default: all")
    parser.add_argument("--output", type=Path, help="where the raw results go, as JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--shards", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        print(json.dumps(measure(PEERS[arguments.one](arguments.images, arguments.shards))))
        return 0
    peers = arguments.peer or list(PEERS)
    with tempfile.TemporaryDirectory(dir=arguments.images.parent) as scratch:
        folder, shards = prepare(arguments.images, Path(scratch))
        runs = [
            run(peer, folder, shards) | {"round": number}
            for number in range(arguments.rounds)
            for peer in peers
        ]
    print(table(runs))
    if arguments.output:
        text = json.dumps({"machine": machine(), "runs": runs}, indent=1)
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 0


def prepare(images: Path, scratch: Path) -> tuple[Path, Path]:
    """Link every image `COPIES` times, so that an epoch is long enough, and make shards of them."""
    folder, shards = scratch / "folder", scratch / "shards"
    for path in sorted(images.glob("*/*")):
        linked = folder / "train" / path.parent.name
        linked.mkdir(parents=True, exist_ok=True)
        for copy in range(COPIES):
            (linked / f"{copy}_{path.name}").hardlink_to(path)
    tool = [sys.executable, "-m", "tools.make_shards", str(folder), "--split", "train"]
    subprocess.run([*tool, "--output", str(shards)], check=True, stdout=subprocess.DEVNULL)
    return folder, shards


def run(peer: str, folder: Path, shards: Path) -> dict[str, float | str]:
    """Measure one peer in a fresh process."""
    command = [sys.executable, __file__, str(folder), "--shards", str(shards), "--one", peer]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{peer:40} {result['images_per_cpu_s']:7.0f} images per CPU-second", flush=True)
    return {"peer": peer, **result}


def measure(epoch: Epoch) -> dict[str, float]:
    """Time `EPOCHS` epochs after one that warms up."""
    for _ in epoch(0):
        pass
    images, cpu, wall = 0, cpu_seconds(), time.perf_counter()
    for number in range(1, 1 + EPOCHS):
        images += sum(epoch(number))
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    return {"images": images, "images_per_cpu_s": images / cpu, "images_per_s": images / wall}


def cpu_seconds() -> float:
    """CPU time of this process and its children so far."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    reaped = times[0].children_user + times[0].children_system
    return reaped + sum(time.user + time.system for time in times)


def machine() -> dict[str, str | int]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    versions = {package: version(package) for package in PACKAGES}
    return {
        "cpu": model,
        "threads": THREADS,
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        **versions,
    }


def table(runs: list[dict[str, float | str]]) -> str:
    """Medians over the rounds; wall-clock rates of a shared machine stay in the raw results."""
    lines = ["| loader | images per CPU-second | lowest - highest | runs |", "|---|---|---|---|"]
    for peer in dict.fromkeys(run["peer"] for run in runs):
        rates = [float(run["images_per_cpu_s"]) for run in runs if run["peer"] == peer]
        median = statistics.median(rates)
        lines.append(
            f"| {peer} | {median:.0f} | {min(rates):.0f} - {max(rates):.0f} | {len(rates)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
