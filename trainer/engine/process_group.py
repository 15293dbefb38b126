"""The ranks, joined, and what holds for all that they compute."""

import deepspeed
import torch
from deepspeed.utils import logger as deepspeed_logger

from trainer.process.world import choose_device, make_host_group


def init_process_group() -> torch.device:
    """Join the process group, nccl where there is a GPU, gloo otherwise; returns the device.

    Raises:
        ValueError: if there is no GPU left for this rank.
    """
    deepspeed_logger.setLevel("ERROR")
    device = choose_device()  # before any collective: nccl would take GPU 0 on every rank
    if device.type == "cpu":
        # DeepSpeed would compile CPU collectives of its own, which takes half a minute, needs a
        # compiler, and leaves 69 MB per rank in /dev/shm for ever. Gloo's serve as well. Where
        # there is a GPU it has none, and to ask here would have it look for the compiler of every
        # kernel that it could build.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(dist_backend=backend, verbose=False)
    make_host_group()
    return device
