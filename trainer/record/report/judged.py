"""What a model said of each validation image: a few numbers an image."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from pipeline.batch import IGNORE_LABEL, Batch


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One entry an image, in the order of the data.

    Attributes:
        samples: (N,) int64, indices into the source.
        labels: (N,) int64, the class that is right.
        predicted: (N,) int64, the most probable class.
        confidence: (N,) float32, its probability.
        right: (N,) float32, the probability of the right class.
    """

    samples: NDArray[np.int64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    right: NDArray[np.float32]


class Judgements:
    """Collects them on the device, so that evaluation does not wait for it."""

    def __init__(self) -> None:
        self._samples: list[Tensor] = []
        self._rows: list[Tensor] = []

    def update(self, logits: Tensor, batch: Batch) -> None:
        """Take what is said of one batch: logits (B, K)."""
        probabilities = logits.float().softmax(1)
        best = probabilities.max(1)
        right = probabilities.gather(1, batch.labels.clamp(min=0)[:, None])[:, 0]
        rows = (batch.labels, best.indices, best.values, right)
        # A loader may write to a batch again.
        self._samples.append(batch.samples.clone())
        self._rows.append(torch.stack([row.double() for row in rows]))

    def gather(self) -> Judged:
        """All images, each once, on every rank (collective).

        All ranks have as many batches of the same shape, which is the contract of loaders.
        """
        mine = torch.cat(self._rows, dim=1)
        samples = torch.cat(self._samples).to(mine)
        mine = torch.cat([samples[None], mine])
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine)
        rows = torch.cat(parts, dim=1).cpu().numpy()
        rows = rows[:, rows[1] != IGNORE_LABEL]
        rows = rows[:, np.argsort(rows[0])]
        return Judged(
            samples=rows[0].astype(np.int64),
            labels=rows[1].astype(np.int64),
            predicted=rows[2].astype(np.int64),
            confidence=rows[3].astype(np.float32),
            right=rows[4].astype(np.float32),
        )
