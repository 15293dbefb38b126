"""Exact counts of right predictions, summed as integers, so any world size gives the same."""

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.batch import IGNORE_LABEL


class Accuracy:
    """Top-1 and top-5 over all ranks; entries labelled `IGNORE_LABEL` do not count."""

    def __init__(self, device: torch.device) -> None:
        self._counts = torch.zeros(3, dtype=torch.int64, device=device)  # top-1, top-5, images

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count one batch: logits (B, K), labels (B,). Stays on the device."""
        valid = labels != IGNORE_LABEL
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hits = (best == labels[:, None]) & valid[:, None]
        self._counts += torch.stack([hits[:, 0].sum(), hits.sum(), valid.sum()])

    def compute(self) -> tuple[float, float, int]:
        """Top-1 and top-5 in percent and the number of images, over all ranks (collective)."""
        counts = self._counts.clone()
        dist.all_reduce(counts)
        top1, top5, count = counts.tolist()
        return 100 * top1 / max(count, 1), 100 * top5 / max(count, 1), count
