"""What one thread of the native decoder makes of the same bytes, with no loader around it.

The encoded images lie in memory and all regions are computed beforehand, so that nothing is timed
but calls of the extension: libjpeg-turbo's partial decoding, and the resampling.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from millstream_native import Pool, decode_crops

from benchmarks.loader_peers.ours import SPEC
from benchmarks.loader_peers.peer import BATCH, SIZE, DataSets, Epoch
from pipeline.augment.crop_draws import crops
from pipeline.config import CropConfig
from pipeline.formats.open import open_source
from pipeline.loaders.regions import evaluation_regions, training_regions


def decoding(sets: DataSets, threads: int, *, small: bool = False, training: bool = True) -> Epoch:
    """Decode and resample on one thread, whatever `threads` says."""
    del threads
    source = open_source(sets.small_shards if small else sets.shards)
    samples = source.read_many(np.arange(len(source) // BATCH * BATCH))
    data = [sample.data.tobytes() for sample in samples]
    sizes = np.array([(sample.height, sample.width) for sample in samples], np.int32)
    pool, out = Pool(1), np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
    if training:
        drawn = crops(
            CropConfig(),
            seed=0,
            epoch=0,
            samples=np.arange(len(samples)),
            widths=sizes[:, 1],
            heights=sizes[:, 0],
        )
        regions = training_regions(drawn)
    else:
        regions = evaluation_regions(samples, SPEC)
    calls = [
        (data[start : start + BATCH], *(part[start : start + BATCH] for part in (sizes, *regions)))
        for start in range(0, len(samples), BATCH)
    ]

    def batches(_: int) -> Iterator[int]:
        for call in calls:
            # Photographs that are no plain JPEGs are left out, as in the loader by PIL: a few
            # in a thousand.
            yield BATCH - len(decode_crops(pool, *call, out))

    return batches


PEERS = {
    "limit": decoding,
    "limit, 400 px": partial(decoding, small=True),
    "limit, evaluation": partial(decoding, training=False),
}
