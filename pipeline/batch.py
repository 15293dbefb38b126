"""The batch that every loader yields, and the contract that every loader keeps.

A batch holds raw uint8 pixels and integer labels: what depends on the whole batch (normalising,
erasing, mixing) happens once, on the accelerator, in `pipeline.augment.batches`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORE_LABEL = -1
"""Label of the entries that pad the last evaluation batch; they are never counted."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch of one rank.

    Attributes:
        images: (B, 3, H, W) uint8, channels-last strides.
        labels: (B,) int64, `IGNORE_LABEL` where padded.
        samples: (B,) int64 indices into the source, `order.NO_SAMPLE` where padded; where
            augmentation is repeated, numbers of draws (`order.sample_of`). They stay in host memory
            on every device: they key the draws of the batch transform, which are made there, and
            fetching them back would stop the device.
    """

    images: Tensor
    labels: Tensor
    samples: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where a loader's batches go: one rank of `world_size`, on `device`.

    `local_size` ranks run on this machine and share its cores.
    """

    rank: int = 0
    world_size: int = 1
    local_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class BadSample(NamedTuple):
    """An image that could not be read or decoded, and that a gray one stood in for.

    Attributes:
        sample: its index in the source.
        key: its name there.
        file: where it lies.
        reason: what is wrong, in words.
        epoch: in which it was to be used; 0 in evaluation.
    """

    sample: int
    key: str
    file: str
    reason: str
    epoch: int


class Loader(Protocol):
    """A source of batches. `tests/pipeline/test_loaders.py` holds every implementation to this.

    1. Order. Which samples are in batch b of an epoch depends on nothing but the configuration,
       the epoch and b. `batches(e, start=s)` continues exactly where an interrupted `batches(e)`
       stopped: same samples, same pixels.
    2. Elasticity. The set of samples that makes up optimizer step t, and each one's pixels, are
       the same for every world size and accumulation that give the same global batch.
    3. Length. Every rank yields exactly as many batches as every other.
    4. Coverage. Training: no sample twice in an epoch over all ranks, and no draw of it twice where
       augmentation is repeated. Evaluation: every sample exactly once; the tail is padded with
       IGNORE_LABEL, so shapes stay fixed.
    5. Layout. As in `Batch`; images and labels on the placement's device.
    6. Lifetime. A batch may be overwritten by the next step of the iterator: use it or copy it.
    7. Errors. An unreadable sample raises DataError naming its key and file, or, where the recipe
       says so, is replaced by a named rule and counted. Nothing is skipped in silence.
    """

    @property
    def batches_per_epoch(self) -> int:
        """Micro-batches that this rank yields in each epoch."""
        ...

    @property
    def replaced(self) -> int:
        """Unreadable images that this rank has replaced so far."""
        ...

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from batch `start` on."""
        ...

    def close(self) -> None:
        """Release threads and buffers."""
        ...


def send(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Return `array` on `device`; a GPU fetches it from pinned memory while the host goes on."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
