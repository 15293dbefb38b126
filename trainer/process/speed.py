"""How well the hardware is used: operations a second against its peak, and memory at the peak."""

import resource
import sys

import torch
import torch.distributed as dist

from models.device_peaks import DevicePeaks, peaks_of
from trainer.process.world import host_group

_TRAINING_PASSES = 3
"""A backward pass computes two products for each one of the forward pass."""
_FLOPS_PER_MAC = 2


class Utilization:
    """Model FLOPs utilization (Chowdhery et al. 2022, appendix B)."""

    def __init__(self, device: torch.device, *, macs: int | None, dtype: str, tf32: bool) -> None:
        """Find what `device` can do.

        Args:
            device: of a rank.
            macs: multiply-adds of the forward pass of an image; None: not known.
            dtype: `precision.dtype`.
            tf32: `precision.allow_tf32`.
        """
        self._flops_per_image = _TRAINING_PASSES * _FLOPS_PER_MAC * (macs or 0)
        peaks = _peaks(device)
        self._peak = peaks.flops_per_s(dtype, allow_tf32=tf32) if peaks else 0.0

    def mfu(self, images_per_s: float) -> float | None:
        """The share of the peak that `images_per_s` on one device are; None if not known.

        What is computed again for `model.grad_checkpointing` does not count.
        """
        if not self._peak or not self._flops_per_image:
            return None
        return images_per_s * self._flops_per_image / self._peak


def _peaks(device: torch.device) -> DevicePeaks | None:
    if device.type != "cuda":
        return None
    return peaks_of(torch.cuda.get_device_name(device))


def peak_memory_bytes(device: torch.device) -> int:
    """The most that any rank has used so far (collective).

    Of a GPU, what torch has allocated, without what DALI and nccl take; on a CPU, what the process
    has held in memory.
    """
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        used = peak if sys.platform == "darwin" else peak * 1024
    most = torch.tensor(used)
    dist.all_reduce(most, op=dist.ReduceOp.MAX, group=host_group())
    return int(most.item())
