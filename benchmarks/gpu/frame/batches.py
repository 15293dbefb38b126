"""Batches for training from real loaders, for as long as they are wanted."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.frame.experiment import UnavailableError
from pipeline.augment.config import AugmentConfig
from pipeline.batch import Batch, Loader, Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.formats.source import Source
from pipeline.loaders.build import build_loader

_MEAN = (0.5, 0.5, 0.5)
SPEC = InputSpec(size=224, mean=_MEAN, std=_MEAN, crop_pct=0.875, interpolation="bicubic")


def open_loader(
    source: Source, data: DataConfig, augment: AugmentConfig, *, batch: int, device: torch.device
) -> Loader:
    """Return a loader of `batch` images at once, on one rank.

    Raises:
        UnavailableError: without the native extension the host does not decode.
    """
    try:
        return build_loader(
            source,
            data=data,
            augment=augment,
            spec=SPEC,
            batch_size=batch,
            accumulation=1,
            placement=Placement(device=device),
            seed=0,
            training=True,
        )
    except ValueError as error:
        raise UnavailableError(str(error)) from error


def endless(loader: Loader) -> Iterator[Batch]:
    """Yield batches, epoch after epoch."""
    epoch = 0
    while True:
        yield from loader.batches(epoch)
        epoch += 1
