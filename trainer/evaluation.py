"""Exact evaluation of the weights and of their average, over all ranks."""

from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.batch import IGNORE_LABEL
from trainer.ema import Ema
from trainer.engine import Engine
from trainer.events import Evaluated
from trainer.job import Job


class Accuracy:
    """Top-1 and top-5 over all ranks, counted as integers; `IGNORE_LABEL` does not count."""

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


class Evaluator:
    """Scores what an engine holds on the validation images of a job."""

    def __init__(self, job: Job, engine: Engine, ema: Ema | None) -> None:
        self._job = job
        self._engine = engine
        self._ema = ema

    def evaluate(self, *, step: int, epoch: int) -> Evaluated | None:
        """Score the weights, then their average if there is one (collective).

        Returns:
            The last score; None if told to stop. Nothing is logged then: all of it happens again.
        """
        done: list[Evaluated] = []
        for ema in (None, self._ema) if self._ema else (None,):
            with ema.swapped_in() if ema else nullcontext():
                scored = self._accuracy()
            if scored is None:
                return None
            top1, top5, count = scored
            done.append(
                Evaluated(
                    step=step, epoch=epoch, top1=top1, top5=top5, count=count, ema=ema is not None
                )
            )
        for event in done:
            self._job.emit(event)
        return done[-1]

    @torch.no_grad()
    def _accuracy(self) -> tuple[float, float, int] | None:
        self._engine.eval()
        accuracy = Accuracy(self._engine.device)
        for batch in self._job.evaluation.batches(0):
            images = self._job.transform.evaluate(batch)
            accuracy.update(self._engine.forward(images), batch.labels)
            if self._job.stop.poll():
                return None
        return accuracy.compute()
