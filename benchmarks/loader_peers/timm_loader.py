"""The loader of timm's training script: PIL in worker processes, which yield uint8.

Its prefetcher is left out, since it makes floats in the main process where there is no GPU.
"""

from collections.abc import Iterator
from functools import partial

import torch
from PIL import Image
from timm.data import auto_augment
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from timm.data.random_erasing import RandomErasing

from benchmarks.loader_peers.peer import BATCH, CROP_PCT, ERASE, POLICY, SIZE, DataSets, Epoch


def loader(sets: DataSets, threads: int, *, training: bool = True, policy: str = "") -> Epoch:
    """Crop and flip; RandAugment and random erasing where there is a policy; or evaluation."""
    _mend_posterize()
    dataset = create_dataset("", root=str(sets.folder), split="train")
    batches = create_loader(
        dataset,
        input_size=(3, SIZE, SIZE),
        batch_size=BATCH,
        is_training=training,
        color_jitter=None,
        auto_augment=policy or None,
        interpolation="random" if policy else "bilinear",
        crop_pct=CROP_PCT,
        num_workers=threads,
        use_prefetcher=True,
        device=torch.device("cpu"),
    ).loader
    if not policy:
        return lambda _: (len(labels) for _, labels in batches)
    # In normalised floats on the device, as in timm; here in a float batch that is made once.
    pixels = torch.zeros(BATCH, 3, SIZE, SIZE)
    erase = RandomErasing(ERASE, mode="pixel", device="cpu")

    def augmented(_: int) -> Iterator[int]:
        for _, labels in batches:
            erase(pixels)
            yield len(labels)

    return augmented


def _mend_posterize() -> None:
    """Make 0 bits black, as they were before Pillow 13, which refuses them."""
    posterize = auto_augment.NAME_TO_OP["PosterizeIncreasing"]

    def mended(image: Image.Image, bits: int, **options: object) -> Image.Image:
        return posterize(image, bits, **options) if bits else Image.new("RGB", image.size)

    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = mended


PEERS = {
    "timm, uint8": loader,
    "timm, uint8, RandAugment": partial(loader, policy=POLICY),
    "timm, evaluation": partial(loader, training=False),
}
