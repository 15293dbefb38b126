"""Do batches arrive whole when nobody waits for them? Checksums on a busy and a quiet device.

    python -m benchmarks.gpu.stream_stress --output OUT/stream_stress.json

The same epoch twice: once the device is waited for before and after each batch; once the checksums
are enqueued behind long work on the same stream, beside other work on a second one, and nobody
waits before the end. A loader that hands over a buffer too early, or writes into one that is still
in use, gives other checksums. Pixels and labels; decoded on the GPU, with RandAugment there, and by
the host's threads.

On a CPU both passes are alike.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.frame.batches import endless, open_loader
from benchmarks.gpu.frame.device import wait
from benchmarks.gpu.frame.experiment import Case, Result, main
from benchmarks.gpu.frame.pictures import image_folder
from pipeline.augment.config import AugmentConfig
from pipeline.batch import Batch
from pipeline.config import DataConfig
from pipeline.formats.open import open_source

_PRIME = 65_521
"""Of the weights: a pixel that moves changes the sum, as in Adler-32."""
_BUSY = 4096
"""Side of the products that keep the device busy: 0.2 ms each on an H200."""
_PRODUCTS = 20
LOADERS: dict[str, tuple[DataConfig, AugmentConfig]] = {
    "decoded on the device": (DataConfig(loader="dali"), AugmentConfig()),
    "decoded and augmented on the device": (
        DataConfig(loader="dali"),
        AugmentConfig(auto_augment="rand-m9-mstd0.5-inc1"),
    ),
    "decoded by the host": (DataConfig(loader="dali", decode="cpu"), AugmentConfig()),
}


def checksum(batch: Batch) -> Tensor:
    """(2,) int64: of the pixels, by their places, and of the labels."""
    pixels, labels = batch.images.reshape(-1), batch.labels
    places = torch.arange(pixels.numel(), device=pixels.device) % _PRIME + 1
    order = torch.arange(labels.numel(), device=labels.device) + 1
    return torch.stack([(places * pixels).sum(), (order * labels).sum()])


def quiet(batches: Iterator[Batch], device: torch.device) -> list[list[int]]:
    """Return the checksums, each waited for."""
    sums = []
    for batch in batches:
        wait(device)
        sums.append(checksum(batch).tolist())
        wait(device)
    return sums


def busy(batches: Iterator[Batch], device: torch.device) -> list[list[int]]:
    """Return the checksums, all taken behind long work, and waited for at the end alone."""
    sums, work = [], _Work(device)
    for batch in batches:
        work.enqueue()
        sums.append(checksum(batch))
    wait(device)
    return [total.tolist() for total in sums]


class _Work:
    """Products that take a device long: on the current stream and on another one."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        if self._on_gpu:
            self._other = torch.cuda.Stream(device)
            self._factor = torch.randn(_BUSY, _BUSY, device=device, dtype=torch.bfloat16)

    def enqueue(self) -> None:
        """Return at once."""
        if not self._on_gpu:
            return
        for _ in range(_PRODUCTS):
            self._factor @ self._factor
        with torch.cuda.stream(self._other):
            self._factor @ self._factor


def mismatches(one: list[list[int]], other: list[list[int]]) -> list[int]:
    """Return the numbers of the batches whose checksums differ."""
    return [
        number for number, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]
    ]


def measure(arguments: argparse.Namespace, name: str) -> Result:
    """Compare the two passes with one loader."""
    device = arguments.device
    size, count, images = (64, 500, 4096) if device.type == "cuda" else (4, 3, 16)
    with tempfile.TemporaryDirectory() as scratch:
        folder = image_folder(arguments.data, Path(scratch, "images"), at_least=images)
        loader = open_loader(open_source(folder), *LOADERS[name], batch=size, device=device)
        with closing(loader):
            expected = quiet(islice(endless(loader), count), device)
            found = busy(islice(endless(loader), count), device)
    wrong = mismatches(expected, found)
    return {"batches": len(found), "images_per_batch": size, "mismatches": wrong}


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """Return a case a loader."""
    return {name: partial(measure, arguments, name) for name in LOADERS}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, cases))
