"""FFCV's loader on a file that FFCV's writer made."""

from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage

from benchmarks.loader_peers.peer import BATCH, SIZE, DataSets, Epoch


def loader(sets: DataSets, threads: int) -> Epoch:
    """Crop and flip, in random order, the file in the page cache."""
    images = [
        RandomResizedCropRGBImageDecoder((SIZE, SIZE)),
        RandomHorizontalFlip(),
        ToTensor(),
        ToTorchImage(),
    ]
    batches = Loader(
        str(sets.ffcv_file),
        batch_size=BATCH,
        num_workers=threads,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        pipelines={"image": images, "label": [IntDecoder(), ToTensor(), Squeeze()]},
    )
    return lambda _: (len(labels) for _, labels in batches)


PEERS = {"FFCV 400 px": loader}
