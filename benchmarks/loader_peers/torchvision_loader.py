"""torchvision's transforms in DataLoader workers: those of its references, and the fastest ones."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from benchmarks.loader_peers.peer import BATCH, MEAN, SIZE, STD, DataSets, Epoch


def uint8_tensors(sets: DataSets, threads: int) -> Epoch:
    """Decoded by torchvision's libjpeg-turbo, and resampled as uint8 tensors."""
    steps = [v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()]
    return _loaded(sets, threads, _decode, v2.Compose(steps))


def recipe(sets: DataSets, threads: int) -> Epoch:
    """The training references': PIL, then normalised floats."""
    steps = [v1.RandomResizedCrop(SIZE), v1.RandomHorizontalFlip(), v1.ToTensor()]
    return _loaded(sets, threads, default_loader, v1.Compose([*steps, v1.Normalize(MEAN, STD)]))


def _decode(path: str) -> Tensor:
    return decode_image(path, mode=ImageReadMode.RGB)


def _loaded(
    sets: DataSets,
    threads: int,
    read: Callable[[str], object],
    transform: Callable[[object], Tensor],
) -> Epoch:
    torch.set_num_threads(1)
    dataset = ImageFolder(sets.folder / "train", transform, loader=read)
    loader = DataLoader(
        dataset, BATCH, shuffle=True, num_workers=threads, drop_last=True, persistent_workers=True
    )
    return lambda _: (len(labels) for _, labels in loader)


PEERS = {
    "torchvision v2, uint8": uint8_tensors,
    "torchvision recipe, float": recipe,
}
