"""The processes that share an evaluation: one, or as many as torchrun, srun or deepspeed start."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist

from trainer.world import World, bootstrap, current, share_cores


@contextmanager
def process_group(device: str | None) -> Iterator[World]:
    """Join the others.

    Args:
        device: such as "cpu"; None takes this rank's GPU where there is one.

    Raises:
        ValueError: if there is no such device.
    """
    before = dict(os.environ)
    bootstrap()
    wants_gpu = torch.cuda.is_available() if device is None else device.startswith("cuda")
    if wants_gpu and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: there is no GPU here; leave it out to use the CPU")
    dist.init_process_group("nccl" if wants_gpu else "gloo")
    try:
        world = current()
        if device is not None and not (wants_gpu and world.world_size > 1):
            world = replace(world, device=_device(device))
        if world.device.type == "cuda":
            torch.cuda.set_device(world.device)
        share_cores(world)
        yield world
    finally:
        dist.destroy_process_group()
        os.environ.clear()  # a second group of this process, or a child, has ranks of its own
        os.environ.update(before)


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device: expected cpu, cuda or cuda:N, got {name!r}") from None
