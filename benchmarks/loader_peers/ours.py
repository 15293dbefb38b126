"""This project's loaders."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from benchmarks.loader_peers.peer import (
    BATCH,
    CROP_PCT,
    ERASE,
    MEAN,
    POLICY,
    SIZE,
    STD,
    DataSets,
    Epoch,
    UnavailableError,
)
from pipeline.augment.batches import BatchTransform
from pipeline.augment.config import AugmentConfig
from pipeline.batch import Loader, Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.counter import DrawKey
from pipeline.formats.open import open_source
from pipeline.loaders.build import build_loader

SPEC = InputSpec(size=SIZE, mean=MEAN, std=STD, crop_pct=CROP_PCT, interpolation="bilinear")
Name = Literal["host", "dali", "reference"]


def ours(
    name: Name, shards: Path, threads: int, *, training: bool = True, policy: str = ""
) -> Loader:
    """Build a loader of ours on the CPU.

    Raises:
        UnavailableError: if it does not do what is asked for.
    """
    try:
        return build_loader(
            open_source(shards),
            data=DataConfig(loader=name, threads=threads),
            augment=AugmentConfig(auto_augment=policy),
            spec=SPEC,
            batch_size=BATCH,
            accumulation=1,
            placement=Placement(device=torch.device("cpu")),
            seed=0,
            training=training,
        )
    except ValueError as error:
        raise UnavailableError(str(error)) from error


def counted(loader: Loader) -> Epoch:
    """Return the loader as a peer."""
    return lambda epoch: (len(batch.labels) for batch in loader.batches(epoch))


def cropped(name: Name, sets: DataSets, threads: int) -> Epoch:
    """Crop and flip, from shards."""
    return counted(ours(name, sets.shards, threads))


def cropped_small(sets: DataSets, threads: int) -> Epoch:
    """Crop and flip, from shards of the JPEGs that FFCV made."""
    return counted(ours("host", sets.small_shards, threads))


def evaluated(sets: DataSets, threads: int) -> Epoch:
    """Resize and centre crop, of the last batch's padding too."""
    return counted(ours("host", sets.shards, threads, training=False))


def augmented(name: Name, sets: DataSets, threads: int) -> Epoch:
    """Crop, flip, RandAugment and random erasing.

    Erasing happens in normalised floats on the model's device. Making floats is no loader's work in
    any row called uint8; so one float batch is made once, and the boxes of each batch are erased in
    it.
    """
    loader = ours(name, sets.shards, threads, policy=POLICY)
    transform = BatchTransform(AugmentConfig(erase=ERASE), spec=SPEC, num_classes=1000, seed=0)
    pixels = torch.zeros(BATCH, SIZE, 3 * SIZE)

    def batches(epoch: int) -> Iterator[int]:
        for batch in loader.batches(epoch):
            key: DrawKey = {"seed": 0, "epoch": epoch, "samples": batch.samples.numpy()}
            transform._erase(pixels, key)  # alone, which no training does
            yield len(batch.labels)

    return batches


PEERS = {
    "ours: host, shards": partial(cropped, "host"),
    "ours: dali, shards": partial(cropped, "dali"),
    "ours: reference, shards": partial(cropped, "reference"),
    "ours: host, shards 400 px": cropped_small,
    "ours: host, shards, RandAugment": partial(augmented, "host"),
    "ours: dali, shards, RandAugment": partial(augmented, "dali"),
    "ours: host, evaluation": evaluated,
}
