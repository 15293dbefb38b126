"""The processes that share an evaluation: one, or as many as torchrun, srun or deepspeed start."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from trainer.process.world import (
    World,
    bootstrap,
    choose_device,
    current,
    make_host_group,
    share_cores,
)


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
    place = _place(device, wants_gpu=wants_gpu)
    dist.init_process_group("nccl" if wants_gpu else "gloo")
    make_host_group()
    try:
        world = current(place)
        share_cores(world)
        yield world
    finally:
        dist.destroy_process_group()
        os.environ.clear()  # a second group of this process, or a child, has ranks of its own
        os.environ.update(before)


def _place(device: str | None, *, wants_gpu: bool) -> torch.device:
    """The device of this rank, made the current one if it is a GPU."""
    if wants_gpu and (device in (None, "cuda") or int(os.environ["WORLD_SIZE"]) > 1):
        return choose_device()
    place = torch.device("cpu") if device is None else _device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    return place


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device: expected cpu, cuda or cuda:N, got {name!r}") from None
