"""Which stage is the bottleneck, and which setting to turn, with numbers."""

import math
from typing import NamedTuple

from tools.speed.stages import AUGMENTING, BATCH, DECODING, READING, TRANSFER, Measured

MODEL = "the model"
_LEVEL = 0.97
"""A loader that yields this share of what the model takes keeps it busy."""


class Verdict(NamedTuple):
    """What limits training.

    Attributes:
        bottleneck: a stage, or the model.
        images_per_s: that training can be expected to reach.
        wait: the share of the time that the model spends waiting for data then.
        advice: what to do.
    """

    bottleneck: str
    images_per_s: float
    wait: float
    advice: str


def verdict(measured: Measured, *, cores: int) -> Verdict:
    """Judge; `cores` are those of this machine that one process may use."""
    loading, model = measured.together, measured.model
    slowest = max(measured.stages, key=lambda stage: measured.stages[stage])
    if not measured.on_gpu:  # loading and training share the cores: their times add up
        rate = 1 / (1 / loading + 1 / model)
        is_model, wait = model <= loading, rate / loading
    else:
        rate, is_model = min(loading, model), loading >= _LEVEL * model
        wait = max(0.0, 1 - loading / model)
    if is_model:
        return Verdict(MODEL, rate, wait, _to_the_model(measured))
    return Verdict(slowest, rate, wait, _to_the_loader(slowest, measured, cores))


def _to_the_model(measured: Measured) -> str:
    more = measured.together / measured.model
    return (
        f"loading could feed {more:.1f} times as much, so no setting of the data makes training"
        " faster: try precision.dtype bf16, run.compile, or a larger batch.per_gpu"
    )


def _to_the_loader(stage: str, measured: Measured, cores: int) -> str:
    short = measured.model / measured.together
    if stage == READING:
        return (
            "reading is what loading waits for: keep the data on a local disk, as shards"
            " (tools/make_shards.py), smaller ones with --resize; or set data.window, which reads"
            " shards one after the other"
        )
    if stage == BATCH:
        return "augment.erase and augment.mixup cost most, on the model's device: a cheaper recipe"
    if stage == TRANSFER:
        return "the bus to the GPU is the limit: a smaller model.img_size, or more machines"
    if measured.loader == "reference":
        return "data.loader reference is the slow oracle: leave data.loader out"
    wanted = math.ceil(short * measured.threads)
    if measured.threads < cores:
        return (
            f"set data.threads to {min(cores, wanted)} (now {measured.threads}): the model takes"
            f" {short:.1f} times what they yield, and {cores} cores are there"
        )
    if stage == AUGMENTING:
        return (
            f"the {cores} cores are busy with augment.auto_augment and its like, which take"
            f" {measured.stages[AUGMENTING]:.0f} us an image: fewer operations, or more cores"
        )
    assert stage == DECODING, stage
    return (
        f"all {cores} cores decode, and the model takes {short:.1f} times what they yield:"
        " make smaller shards (tools/make_shards.py --resize 400; they decode about 2.4 times as"
        f" fast), or use about {wanted} cores"
    )
