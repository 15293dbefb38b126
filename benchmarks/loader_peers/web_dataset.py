"""webdataset on our shards, in worker processes, with simplejpeg and OpenCV for the images."""

import numpy as np
import torch
import webdataset as wds

from benchmarks.loader_peers.opencv_crop import cropped
from benchmarks.loader_peers.peer import BATCH, DataSets, Epoch


def loader(sets: DataSets, threads: int) -> Epoch:
    """Crop and flip; shards are shuffled, and samples among 1,000."""
    urls = [str(path) for path in sorted(sets.shards.glob("*.tar"))]
    dataset = (
        wds.WebDataset(urls, shardshuffle=len(urls), empty_check=False)
        .shuffle(1000, initial=1000)
        .to_tuple("jpg", "cls")
        .map_tuple(cropped, int)
        .batched(BATCH, collation_fn=_stacked, partial=False)
    )
    batches = wds.WebLoader(dataset, batch_size=None, num_workers=threads, persistent_workers=True)
    return lambda _: (len(labels) for _, labels in batches)


def _stacked(samples: list[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*samples, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


PEERS = {"webdataset": loader}
