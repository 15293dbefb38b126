"""Exact evaluation of the weights and of their average, over all ranks, in one pass."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pipeline.batch import IGNORE_LABEL
from trainer.ema import Ema
from trainer.engine.engine import Engine
from trainer.events import Evaluated
from trainer.job import Job
from trainer.record.report.judged import Judgements

Swap = Callable[[], AbstractContextManager[None]]
"""Makes the context in which the engine computes with other weights."""


class Score:
    """Top-1, top-5 and loss over all ranks; `IGNORE_LABEL` does not count.

    Hits are counted as integers, and losses of single images are summed in float64.
    """

    def __init__(self, device: torch.device) -> None:
        self._counts = torch.zeros(3, dtype=torch.int64, device=device)  # top-1, top-5, images
        self._loss = torch.zeros((), dtype=torch.float64, device=device)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count one batch: logits (B, K), labels (B,). Stays on the device."""
        valid = labels != IGNORE_LABEL
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hits = (best == labels[:, None]) & valid[:, None]
        self._counts += torch.stack([hits[:, 0].sum(), hits.sum(), valid.sum()])
        # Padding has a loss of 0.
        losses = F.cross_entropy(
            logits.float(), labels, ignore_index=IGNORE_LABEL, reduction="none"
        )
        self._loss += losses.double().sum()

    def compute(self, *, step: int, epoch: int, ema: bool) -> Evaluated:
        """What comes of it over all ranks (collective)."""
        counts, loss = self._counts.clone(), self._loss.clone()
        dist.all_reduce(counts)
        dist.all_reduce(loss)
        top1, top5, count = counts.tolist()
        mean = loss.item() / max(count, 1)
        return Evaluated(
            step=step,
            epoch=epoch,
            top1=100 * top1 / max(count, 1),
            top5=100 * top5 / max(count, 1),
            loss=mean if math.isfinite(mean) else None,
            count=count,
            ema=ema,
        )


class Evaluator:
    """Scores what an engine holds on the validation images of a job."""

    def __init__(self, job: Job, engine: Engine, ema: Ema | None) -> None:
        self._job = job
        self._engine = engine
        self._ema = ema

    def evaluate(self, *, step: int, epoch: int) -> Evaluated | None:
        """Score the weights, and their average if there is one (collective).

        Returns:
            The last score; None if told to stop. Nothing is logged then: all of it happens again.
        """
        self._engine.eval()
        with self._ema.swapping() if self._ema else nullcontext() as swapped:
            judgements = Judgements()
            kinds: list[Swap] = [nullcontext, swapped] if swapped else [nullcontext]
            scores = self._scores(kinds, judgements)
        if scores is None:
            return None
        done = [
            score.compute(step=step, epoch=epoch, ema=bool(number))
            for number, score in enumerate(scores)
        ]
        for event in done:
            self._job.emit(event)
        self._job.report.evaluated(judgements.gather(), done[-1])
        return done[-1]

    @torch.no_grad()
    def _scores(self, kinds: list[Swap], judgements: Judgements) -> list[Score] | None:
        """The score of each kind of weights; each image is read, decoded and sent once.

        What the last kind says of each image goes to `judgements`.
        """
        scores = [Score(self._engine.device) for _ in kinds]
        for batch in self._job.evaluation.batches(0):
            images = self._job.transform.evaluate(batch)
            for weights, score in zip(kinds, scores, strict=True):
                with weights():
                    logits = self._engine.forward(images)
                score.update(logits, batch.labels)
                if score is scores[-1]:
                    judgements.update(logits, batch)
            if self._job.stop.poll():
                return None
        return scores
