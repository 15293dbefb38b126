"""Order and draws of all ranks of a job that is too large for this machine, made in one process.

    python -m benchmarks.scale.ranks [--images 14197122] [--ranks 1024] [--json FILE]

By default 1,024 ranks and as many images as ImageNet-21k. What a rank trains on is a pure function
of (seed, epoch, rank), so this is not a model of the job but the code that each of its ranks runs.
It is checked that no image comes twice in an epoch, that all ranks have equally many, that other
numbers of ranks put the same images into each global batch, and that these have the same draws
whoever makes them.
"""

import argparse
import json
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from pipeline.augment.config import AugmentConfig
from pipeline.augment.crop_draws import crops
from pipeline.augment.erase_draws import erase_boxes
from pipeline.augment.image_draws import ImageAugmentation, image_draws
from pipeline.augment.mix_draws import mixes
from pipeline.config import CropConfig
from pipeline.counter import DrawKey, mixed
from pipeline.order import epoch_order, rank_batches
from trainer.batch_plan import BatchPlan

_SIZE = 224
_SHARD = 10_000
"""Images of a shard."""
_WINDOW = 64
"""Shards that are shuffled together."""
_EPOCH = 3
_SEED = 42
_CROP = CropConfig(interpolation="random", hflip=0.5)
_AUGMENT = AugmentConfig(auto_augment="rand-m9-mstd0.5-inc1", erase=0.25, mixup=0.8, cutmix=1.0)
_STEPS_COMPARED = 16
"""Steps whose draws are made by each number of ranks."""
_BATCHES_TIMED = 200


@dataclass(frozen=True, kw_only=True)
class Job:
    """The epoch of a data set, and how its global batches are made."""

    order: NDArray[np.int64]
    plan: BatchPlan

    @property
    def global_size(self) -> int:
        """Images of an optimizer step."""
        return self.plan.per_gpu * self.plan.accumulation * self.plan.world_size

    @property
    def steps(self) -> int:
        """Optimizer steps of the epoch."""
        return len(self.order) // self.global_size

    def samples(self, rank: int, *, start: int = 0) -> NDArray[np.int64]:
        """Return (batches, per_gpu): the micro-batches of a rank from `start` on."""
        batches = rank_batches(
            self.order,
            rank=rank,
            world_size=self.plan.world_size,
            batch_size=self.plan.per_gpu,
            accumulation=self.plan.accumulation,
            start=start,
        )
        return np.stack(list(batches))


def make_order(images: int) -> tuple[NDArray[np.int64], dict[str, float]]:
    """Return an epoch's order, with the seconds and the bytes that it takes each rank.

    Seconds are those of a core, here and below: other work on the machine does not count.
    """
    sizes = [_SHARD] * (images // _SHARD) + ([images % _SHARD] if images % _SHARD else [])
    began = time.process_time()
    order = epoch_order(sizes, seed=_SEED, epoch=_EPOCH, window=_WINDOW)
    seconds = time.process_time() - began
    tracemalloc.start()
    epoch_order(sizes, seed=_SEED, epoch=_EPOCH, window=_WINDOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return order, {"order_s": seconds, "order_bytes": order.nbytes, "peak_bytes": peak}


def check_shares(job: Job) -> dict[str, int]:
    """See that no image comes twice, and that all ranks have equally many.

    Raises:
        AssertionError: if not.
    """
    uses = np.zeros(len(job.order), np.uint8)
    shares: set[int] = set()
    for rank in range(job.plan.world_size):
        mine = job.samples(rank).reshape(-1)
        np.add.at(uses, mine, 1)
        shares.add(len(mine))
    assert uses.max() == 1, "an image came twice"
    assert len(shares) == 1, f"ranks have {sorted(shares)} images"
    used, share = int(uses.sum()), shares.pop()
    assert used == job.steps * job.global_size, "an image is missing"
    return {"images_of_a_rank": share, "images_used": used}


def step_sets(job: Job) -> NDArray[np.int64]:
    """Return (steps, global_size): the images of each optimizer step, in the order of numbers."""
    ranks = [
        job.samples(rank).reshape(job.steps, job.plan.accumulation * job.plan.per_gpu)
        for rank in range(job.plan.world_size)
    ]
    return np.sort(np.concatenate(ranks, axis=1), axis=1)


def draw_digests(samples: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return (N,) hashes of all that is drawn for the images of micro-batches, one after the other.

    Neighbours are mixed in pairs, so N is even; both of a pair have its mixing in their hashes.
    """
    key: DrawKey = {"seed": _SEED, "epoch": _EPOCH, "samples": samples}
    sides = mixed(samples.astype(np.uint64)) % np.uint64(400) + np.uint64(200)
    widths = sides.astype(np.int64)
    heights = (mixed(sides) % np.uint64(400) + np.uint64(200)).astype(np.int64)
    crop = crops(_CROP, **key, widths=widths, heights=heights)
    augmentation = ImageAugmentation(policy=_AUGMENT.policy)
    chain = image_draws(augmentation, **key, size=_SIZE).chain
    erased = erase_boxes(_AUGMENT, **key, size=_SIZE)
    pairs: DrawKey = {**key, "samples": samples[::2]}
    mix = mixes(_AUGMENT, **pairs, size=_SIZE)
    mixing = np.column_stack([mix.weights, mix.boxes, mix.is_cutmix])
    parts = (
        *(np.column_stack(crop), chain.operations, np.nan_to_num(chain.args, nan=-1e9)),
        *(chain.filters, erased.reshape(len(samples), -1), np.repeat(mixing, 2, axis=0)),
    )
    table = np.ascontiguousarray(np.concatenate(parts, axis=1), np.float64).view(np.uint64)
    digest = mixed(samples.astype(np.uint64))
    for column in table.T:
        digest = mixed(digest ^ column)
    return digest


def step_digests(job: Job, steps: range) -> NDArray[np.uint64]:
    """Return (steps,) hashes of the draws of some global batches, whatever rank has which image."""
    total = np.zeros(len(steps), np.uint64)
    accumulation = job.plan.accumulation
    for rank in range(job.plan.world_size):
        mine = job.samples(rank, start=steps.start * accumulation)[: len(steps) * accumulation]
        total += draw_digests(mine.reshape(-1)).reshape(len(steps), -1).sum(axis=1)
    return total


def check_elastic(job: Job, others: list[BatchPlan]) -> dict[str, int]:
    """See that other numbers of ranks make the same global batches, with the same draws.

    Raises:
        AssertionError: if not.
    """
    sets = step_sets(job)
    last = range(max(0, job.steps - _STEPS_COMPARED), job.steps)
    digests = step_digests(job, last)
    assert len(set(digests.tolist())) == len(last), "hashes that do not tell steps apart"
    for plan in others:
        other = Job(order=job.order, plan=plan)
        assert np.array_equal(step_sets(other), sets), f"{plan} has other global batches"
        assert np.array_equal(step_digests(other, last), digests), f"{plan} has other draws"
    return {"steps": job.steps, "steps_with_draws": len(last)}


def draw_all(job: Job) -> dict[str, float]:
    """Make the draws of every rank for the whole epoch; return how long it takes."""
    began = time.process_time()
    for rank in range(job.plan.world_size):
        draw_digests(job.samples(rank).reshape(-1))
    seconds = time.process_time() - began
    batches = job.samples(0)[:_BATCHES_TIMED]
    began = time.process_time()
    for batch in batches:
        draw_digests(batch)
    return {"all_s": seconds, "micro_batch_s": (time.process_time() - began) / len(batches)}


def other_plans(plan: BatchPlan) -> Iterator[BatchPlan]:
    """Yield other ways to make the same global batch: fewer ranks, larger batches, more rounds."""
    global_size = plan.per_gpu * plan.accumulation * plan.world_size
    alone = min(64, global_size)
    for divisor, per_gpu in ((2, 2 * plan.per_gpu), (4, plan.per_gpu), (plan.world_size, alone)):
        ranks = plan.world_size // divisor
        yield BatchPlan.solve(global_size=global_size, per_gpu=per_gpu, world_size=ranks, even=True)


def simulate(images: int, plan: BatchPlan) -> dict[str, object]:
    """Make and check everything; return what was found and how long it took."""
    order, cost = make_order(images)
    job = Job(order=order, plan=plan)
    began = time.process_time()
    shares = check_shares(job)
    checked_s = time.process_time() - began
    others = list(other_plans(plan))
    began = time.process_time()
    elastic = check_elastic(job, others)
    elastic_s = time.process_time() - began
    return {
        "images": images,
        "ranks": plan.world_size,
        "per_gpu": plan.per_gpu,
        "global_size": job.global_size,
        "order": cost,
        "shares": {**shares, "seconds": checked_s},
        "elastic": {
            **elastic,
            "ranks": [other.world_size for other in others],
            "seconds": elastic_s,
        },
        "draws": draw_all(job),
    }


def main() -> None:
    """Simulate what the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=14_197_122)
    parser.add_argument("--ranks", type=int, default=1024)
    parser.add_argument("--per-gpu", type=int, default=4, help="images of a micro-batch")
    parser.add_argument("--json", type=Path, help="write the results there")
    arguments = parser.parse_args()
    plan = BatchPlan(per_gpu=arguments.per_gpu, accumulation=1, world_size=arguments.ranks)
    report = {"machine": machine(), **simulate(arguments.images, plan)}
    text = json.dumps(report, indent=2) + "\n"
    print(text, end="")
    if arguments.json:
        arguments.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
