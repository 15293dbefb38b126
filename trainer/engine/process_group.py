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
    # DeepSpeed would compile CPU collectives of its own, which takes half a minute, needs a
    # compiler, and leaves 69 MB per rank in /dev/shm for ever. Gloo's serve as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    device = choose_device()  # before any collective: nccl would take GPU 0 on every rank
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(dist_backend=backend, verbose=False)
    make_host_group()
    return device
