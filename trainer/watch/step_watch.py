"""Looks at every step's loss and gradients, and names what was odd with its samples.

Nothing is fetched from the device at a step: losses and flags stay there until `settle`, which
comes with a log event or a save, when the host waits anyway.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from pipeline.order import sample_of
from trainer.engine.gradient_check import GradientCheck
from trainer.events import Note, Sink
from trainer.process.world import host_group, on_main
from trainer.record.meta import RunProgress
from trainer.watch.odd_steps import MOST, NAME, OddStep, OddStepList
from trainer.watch.spikes import SpikeRule

MOST_NOTES = 3
"""Notes of one kind between two log events; fp16's first loss scale skips many steps in a row."""


class _Done(NamedTuple):
    """A step that was not looked at yet; loss and gradients on the device."""

    step: int
    epoch: int
    loss: Tensor
    gradients: GradientCheck | None
    draws: NDArray[np.int64]


class StepWatch:
    """The losses of this run, and its odd steps."""

    def __init__(
        self,
        weights: Sequence[str],
        key: Callable[[int], str],
        emit: Sink,
        odd: OddStepList | None,
    ) -> None:
        """Watch the steps of this process.

        Args:
            weights: names of the model's, in its order.
            key: of a sample of the training images.
            emit: takes notes; rank 0's is heard.
            odd: where odd steps are listed; rank 0's.
        """
        self._place = {name: number for number, name in enumerate(weights)}
        self._key = key
        self._emit = emit
        self._list = odd
        self._rule = SpikeRule()
        self._pending: list[_Done] = []
        self._last = math.nan

    def add(
        self,
        progress: RunProgress,
        loss: Tensor,
        gradients: GradientCheck | None,
        draws: Sequence[Tensor],
    ) -> None:
        """Take in a step.

        Args:
            progress: before the step.
            loss: of this rank's share, a scalar on the device.
            gradients: as `Engine.gradients` has them after the step.
            draws: copies of `Batch.samples`, one of each micro-batch.
        """
        numbers = np.concatenate([part.numpy() for part in draws])
        self._pending.append(_Done(progress.step + 1, progress.epoch, loss, gradients, numbers))

    def settle(self) -> float:
        """Judge the steps since the last call; returns the last one's loss (collective).

        The loss is the mean over its global batch, and may not be finite.

        Raises:
            OSError: if the list of odd steps cannot be written, on every rank.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return self._last
        losses = _of_all_ranks(torch.stack([done.loss for done in pending]))
        means = (losses.sum(dim=0) / len(losses)).tolist()
        skipped = _skipped(pending)
        odd: list[OddStep] = []
        for number, (done, loss) in enumerate(zip(pending, means, strict=True)):
            median = self._rule.judge(loss) if math.isfinite(loss) else None
            if skipped[number] or median is not None:
                odd.append(
                    self._odd_step(done, losses[:, number].tolist(), loss, median, skipped[number])
                )
        self._last = means[-1]
        if odd:
            on_main(lambda: self._report(odd))
        return self._last

    def _odd_step(
        self,
        done: _Done,
        rank_losses: list[float],
        loss: float,
        median: float | None,
        is_skipped: bool,
    ) -> OddStep:
        """What all ranks know of the step (collective)."""
        samples: list[list[str]] = [[] for _ in rank_losses]
        mine = [self._key(int(sample)) for sample in sample_of(done.draws)]
        dist.all_gather_object(samples, mine, group=host_group())
        names = self._odd_weights(done.gradients) if is_skipped and done.gradients else []
        return OddStep(
            step=done.step,
            epoch=done.epoch,
            what="not finite" if is_skipped else "spike",
            loss=_finite(loss),
            rank_losses=tuple(_finite(each) for each in rank_losses),
            median=None if is_skipped else median,
            first_weight=names[0] if names else "",
            last_weight=names[-1] if names else "",
            num_weights=len(names),
            samples=tuple(map(tuple, samples)),
        )

    def _odd_weights(self, gradients: GradientCheck) -> list[str]:
        """The weights that any rank has found, in the order of the model (collective)."""
        pairs = zip(gradients.names, gradients.odd.tolist(), strict=True)
        found: list[list[str]] = [[] for _ in range(dist.get_world_size())]
        mine = [name for name, is_odd in pairs if is_odd]
        dist.all_gather_object(found, mine, group=host_group())
        return sorted({name for names in found for name in names}, key=self._place.__getitem__)

    def _report(self, odd: list[OddStep]) -> None:
        assert self._list is not None  # rank 0 has it
        for number, each in enumerate(odd):
            is_listed = self._list.add(each)
            if number < MOST_NOTES:
                text = each.in_words()
                if not is_listed:
                    text = f"step {each.step}: {each.what}; {NAME} has {MOST} lines and is full"
                self._emit(Note(step=each.step, text=text))
        if len(odd) > MOST_NOTES:
            more = f"{len(odd) - MOST_NOTES} more odd steps up to step {odd[-1].step}, see {NAME}"
            self._emit(Note(step=odd[-1].step, text=more))


def _of_all_ranks(losses: Tensor) -> Tensor:
    """(ranks, steps) losses on the host, from each rank's (steps,) (collective; waits)."""
    gathered = losses.new_empty(dist.get_world_size() * len(losses))
    dist.all_gather_into_tensor(gathered, losses)
    return gathered.cpu().reshape(-1, len(losses))


def _skipped(pending: list[_Done]) -> list[bool]:
    """Whether each step was skipped; all ranks find the same."""
    flags = [done.gradients.skipped for done in pending if done.gradients]
    read = iter(torch.stack(flags).tolist() if flags else [])
    return [bool(next(read)) if done.gradients else False for done in pending]


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
