"""The largest `batch.per_gpu` that fits, the same on all ranks.

On a GPU sizes are tried from the largest down, since too large a one is refused at once. On a CPU
too large a one would have the process killed, so two small batches are measured, and the line
through them says what an image takes.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist

from trainer.batch_plan import per_gpu_sizes
from trainer.capacity.memory import available_bytes, peak_bytes
from trainer.capacity.trial import Trial
from trainer.process.world import World, host_group
from trainer.yaml_config import ConfigError

SPARE = 0.15
"""Share of the memory that stays free: for decoding, evaluation, DeepSpeed's buffers, rounding."""
WEIGHT_COPIES = 6
"""Copies of the weights, on a CPU, that training makes beside those of a trial: DeepSpeed's flat
ones, and those of a checkpoint that is being gathered."""
LOADED_BATCHES = 8
"""Batches of pixels, on a CPU, that the loader holds: encoded, decoded, and as numbers."""
STARTED_BYTES = 2**29
"""What a process on a CPU still takes before its first step, whatever the model: DeepSpeed, the
loader's threads, the logs."""
MEASURED = 16
"""Images of the larger batch that is measured on a CPU."""


class Found(NamedTuple):
    """A size, and why."""

    per_gpu: int
    words: str


def largest_per_gpu(
    trial: Trial, world: World, *, global_size: int, even: bool, kept: int | None
) -> Found:
    """Find the size (collective).

    Args:
        trial: of this rank.
        world: this process among all.
        global_size: images of a step over all ranks; the size divides a rank's share of it.
        even: whether it must be even.
        kept: what the run had before, kept if it fits.

    Raises:
        ConfigError: if no size makes up the global batch, or none fits.
    """
    sizes = per_gpu_sizes(global_size, world_size=world.world_size, even=even)
    if not sizes:
        factor = f"2 x the {world.world_size} ranks" if even else f"the {world.world_size} ranks"
        raise ConfigError(
            f"batch.global_size: {global_size} is not a multiple of {factor}; use one that is"
        )
    known = [kept] if kept in sizes else []
    if world.device.type == "cuda":
        found = next((n for n in [*known, *reversed(sizes)] if _fits_everywhere(trial, n)), 0)
        why = f"leaving {SPARE:.0%} of each GPU free"
    else:
        most, why = _most_on_cpu(trial, sizes, local_size=world.local_size)
        found = next((n for n in [*known, *reversed(sizes)] if n <= most), 0)
    if not found:
        raise ConfigError(
            f"batch.per_gpu: auto finds no room for {sizes[0]} images at once, {why}; free memory,"
            " set model.grad_checkpointing, or use a smaller model"
        )
    origin = "as before" if found == kept else f"the largest that fits of {_listed(sizes)}"
    return Found(found, f"batch.per_gpu: auto is {found}, {origin}, {why}")


def _fits_everywhere(trial: Trial, images: int) -> bool:
    return bool(_least(float(trial.fits_on_gpu(images, spare=SPARE))))


def _most_on_cpu(trial: Trial, sizes: list[int], *, local_size: int) -> tuple[float, str]:
    """How many images fit on every rank, not rounded to a size; and why."""
    large = max([n for n in sizes if n <= MEASURED], default=sizes[0])
    small = max([n for n in sizes if n <= large // 2], default=0)
    trial.step(large)  # what stays, such as the optimizer's averages, comes with the first step
    budget = available_bytes(local_size=local_size)
    dist.barrier(group=host_group())  # nobody takes memory before all have seen what there is
    budget = (1 - SPARE) * budget - STARTED_BYTES - WEIGHT_COPIES * trial.weight_bytes
    most_needed = peak_bytes(lambda: trial.step(large))
    least_needed = peak_bytes(lambda: trial.step(small)) if small else 0
    # A smaller slope than that of the pixels as numbers is noise of the measurement.
    slope = max((most_needed - least_needed) / (large - small), 4.0 * trial.image_bytes)
    fixed = max(0.0, most_needed - large * slope)
    per_image = slope + LOADED_BATCHES * trial.image_bytes
    most = _least((budget - fixed) / per_image)
    why = f"at {per_image / 2**20:.1f} MiB an image and {max(budget, 0) / 2**30:.2f} GiB to spare"
    return most, f"{why} on a rank"


def _least(number: float) -> float:
    """The least of all ranks' (collective)."""
    box = torch.tensor([number], dtype=torch.float64)
    dist.all_reduce(box, op=dist.ReduceOp.MIN, group=host_group())
    return box.item()


def _listed(sizes: list[int]) -> str:
    few = [*map(str, sizes)] if len(sizes) < 6 else [*map(str, sizes[:2]), "...", str(sizes[-1])]
    return ", ".join(few)
