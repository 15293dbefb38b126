"""DALI's own reader and random crop, as in NVIDIA's ImageNet examples, on the CPU.

RandAugment is timm's policy in DALI's operators (15 operations with timm's ranges, each layer with
probability 1/2), which is faster than DALI's own policy of two operations for every image. Boxes
are erased with one colour: noise for each pixel would cost DALI's CPU operators 2.6 ms an image.
"""

from collections.abc import Callable, Iterator

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali import math as dali_math
from nvidia.dali.auto_aug import augmentations as a
from nvidia.dali.auto_aug.core import signed_bin
from nvidia.dali.auto_aug.core._select import select
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, pipeline_def
from nvidia.dali.plugin.base_iterator import LastBatchPolicy
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from benchmarks.loader_peers.peer import BATCH, ERASE, RESIZED, SIZE, DataSets, Epoch

_BINS = 101
_LAYERS = 2


def cropped(sets: DataSets, threads: int) -> Epoch:
    """Crop and flip."""

    def graph() -> tuple[DataNode, DataNode]:
        data, labels = _read(sets, shuffled=True)
        return _crop(data), labels

    return _iterated(graph, threads, LastBatchPolicy.DROP)


def augmented(sets: DataSets, threads: int) -> Epoch:
    """Crop, flip, timm's RandAugment, and erasing."""

    def graph() -> tuple[DataNode, DataNode]:
        data, labels = _read(sets, shuffled=True)
        return _erase(_rand_augment(_crop(data))), labels

    return _iterated(graph, threads, LastBatchPolicy.DROP)


def evaluated(sets: DataSets, threads: int) -> Epoch:
    """Resize and centre crop."""

    def graph() -> tuple[DataNode, DataNode]:
        data, labels = _read(sets, shuffled=False)
        images = fn.decoders.image(data, device="cpu")
        images = fn.resize(images, resize_shorter=RESIZED, interp_type=types.INTERP_LINEAR)
        return fn.crop(images, crop=(SIZE, SIZE)), labels

    return _iterated(graph, threads, LastBatchPolicy.PARTIAL)


def _iterated(
    graph: Callable[[], tuple[DataNode, DataNode]], threads: int, policy: LastBatchPolicy
) -> Epoch:
    define = pipeline_def(
        graph, batch_size=BATCH, num_threads=threads, device_id=None, enable_conditionals=True
    )
    pipeline: Pipeline = define()
    iterator = DALIGenericIterator(
        [pipeline],
        ["images", "labels"],
        reader_name="reader",
        last_batch_policy=policy,
        auto_reset=True,
    )

    def batches(_: int) -> Iterator[int]:
        return (len(batch[0]["labels"]) for batch in iterator)

    return batches


def _read(sets: DataSets, *, shuffled: bool) -> tuple[DataNode, DataNode]:
    root = str(sets.folder / "train")
    return fn.readers.file(file_root=root, shuffle_after_epoch=shuffled, name="reader")


def _crop(data: DataNode) -> DataNode:
    images = fn.decoders.image_random_crop(data, random_area=(0.08, 1.0), device="cpu")
    images = fn.resize(images, size=[SIZE, SIZE], interp_type=types.INTERP_LINEAR)
    return fn.flip(images, horizontal=fn.random.coin_flip())


def _rand_augment(images: DataNode) -> DataNode:
    operations = _operations()
    # As many blanks as operations: each layer does something with probability 1/2.
    drawn = fn.random.uniform(
        values=list(range(2 * len(operations))), shape=(_LAYERS,), dtype=types.INT32
    )
    index = fn.cast(dali_math.min(drawn, len(operations)), dtype=types.INT32)
    level = fn.random.normal(mean=90.0, stddev=5.0, shape=(_LAYERS,))  # magnitude 9 +- 0.5 of 10
    level = dali_math.clamp(dali_math.floor(level + 0.5), 0.0, _BINS - 1.0)
    magnitude = signed_bin(fn.cast(level, dtype=types.INT32), shape=(_LAYERS,))
    for layer in range(_LAYERS):
        images = select(
            [*operations, a.identity],
            index[layer],
            data=images,
            magnitude_bin=magnitude[layer],
            num_magnitude_bins=_BINS,
            fill_value=128,
            shape=(SIZE, SIZE),
        )
    return images


def _operations() -> list[object]:
    enhanced = {
        "mag_range": (0, 0.9),
        "randomly_negate": True,
        "mag_to_param": a.shift_enhance_range,
    }
    sharper = {**enhanced, "mag_to_param": a.sharpness_kernel}
    return [
        a.auto_contrast,
        a.equalize,
        a.invert,
        a.rotate.augmentation((0, 30), randomly_negate=True),
        _posterize,
        a.solarize.augmentation((256, 0)),
        a.solarize_add.augmentation((0, 110), mag_to_param=a.solarize_add_shift),
        a.color.augmentation(**enhanced),
        a.contrast.augmentation(**enhanced),
        a.brightness.augmentation(**enhanced),
        a.sharpness.augmentation(**sharper),
        a.shear_x.augmentation((0, 0.3), randomly_negate=True),
        a.shear_y.augmentation((0, 0.3), randomly_negate=True),
        a.translate_x.augmentation((0, 0.45), randomly_negate=True),
        a.translate_y.augmentation((0, 0.45), randomly_negate=True),
    ]


def _posterize_mask(bin_: float) -> np.ndarray:
    kept_bits = 4 - int(4 * bin_ / (_BINS - 1))
    return np.array(255 ^ (2 ** (8 - kept_bits) - 1), np.uint8)


@a.augmentation(
    mag_range=np.arange(_BINS, dtype=float), mag_to_param=_posterize_mask, param_device="auto"
)
def _posterize(data: DataNode, mask: DataNode) -> DataNode:
    return data & mask


def _erase(images: DataNode) -> DataNode:
    area = fn.random.uniform(range=(0.02, 1 / 3))
    area = area * fn.random.coin_flip(probability=ERASE)  # without a hit, the box is empty
    ratio = dali_math.exp(fn.random.uniform(range=(float(np.log(0.3)), float(-np.log(0.3)))))
    shape = fn.stack(dali_math.sqrt(area * ratio), dali_math.sqrt(area / ratio))
    anchor = fn.random.uniform(range=(0.0, 1.0), shape=(2,)) * (1 - dali_math.min(shape, 1.0))
    return fn.erase(
        images, anchor=anchor, shape=shape, normalized=True, axis_names="HW", fill_value=128.0
    )


PEERS = {
    "DALI file reader": cropped,
    "DALI file reader, RandAugment": augmented,
    "DALI file reader, evaluation": evaluated,
}
