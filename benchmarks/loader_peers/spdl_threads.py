"""SPDL's pipeline of threads, with simplejpeg and OpenCV for the images."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from spdl.pipeline import PipelineBuilder

from benchmarks.loader_peers.opencv_crop import cropped
from benchmarks.loader_peers.peer import BATCH, DataSets, Epoch


def loader(sets: DataSets, threads: int) -> Epoch:
    """Crop and flip; a new pipeline for each epoch, as SPDL's are."""
    paths = sorted((sets.folder / "train").glob("*/*"))

    def batches(epoch: int) -> Iterator[int]:
        order = random.Random(epoch).sample(paths, len(paths))
        pipeline = (
            PipelineBuilder()
            .add_source(order)
            .pipe(_crop_of, concurrency=threads)
            .aggregate(BATCH, drop_last=True)
            .pipe(np.stack)
            .add_sink(2)
            .build(num_threads=threads)
        )
        with pipeline.auto_stop():
            for images in pipeline.get_iterator():
                yield len(images)

    return batches


def _crop_of(path: Path) -> np.ndarray:
    return cropped(path.read_bytes())


PEERS = {"SPDL": loader}
