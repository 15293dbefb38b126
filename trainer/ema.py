"""Exponential moving average of the weights, kept on the optimizer's own shards.

One lerp of all flat float32 shards: exact under mixed precision, no communication, and
1 / world_size of the memory under ZeRO. BatchNorm's statistics are averaged too, as in timm: those
that the weights in training see are not the average's. Each rank averages its own, and their mean
over ranks is taken where the average is used, since the order of the two makes no difference.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor

from trainer.engine.engine import Engine, average_over_ranks
from trainer.engine.gather import gather_weights
from trainer.engine.masters import flat_masters, refresh_weights
from trainer.engine.scatter import scatter_weights


def decay_at(step: int, decay: float, *, warmup: bool) -> float:
    """Share of the old average at optimizer step `step`, counted from 0.

    With `warmup` it rises as 1 - (1 + step)^(-2/3), timm's, so that a short run's average does not
    hold on to the first weights.
    """
    return min(decay, 1 - (1 + step) ** (-2 / 3)) if warmup else decay


class Ema:
    """average <- decay * average + (1 - decay) * weights, after each optimizer step."""

    def __init__(self, engine: Engine, decay: float, *, warmup: bool = False) -> None:
        self._engine = engine
        self._decay = decay
        self._warmup = warmup
        self._average = _copies(flat_masters(engine))
        self._statistics = _copies(engine.statistics)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights in that optimizer step `step`, counted from 0, has made."""
        decay = decay_at(step, self._decay, warmup=self._warmup)
        masters = flat_masters(self._engine)  # hundreds at stage 0
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            [*self._average, *self._statistics], [*masters, *self._engine.statistics], 1 - decay
        )

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model computes with the average inside this context (collective)."""
        average_over_ranks(self._statistics)
        self._swap()
        refresh_weights(self._engine)
        try:
            yield
        finally:
            self._swap()
            refresh_weights(self._engine)

    @contextmanager
    def swapping(self) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """Yield what does as `swapped_in`, often; the weights stay as they are meanwhile.

        Both kinds of weights are kept whole, so that nobody waits for another rank at each swap;
        at stage 3, whose ranks do not hold whole weights, it is `swapped_in` itself.
        """
        if self._engine.stage == 3:
            yield self.swapped_in
            return
        working = [*self._engine.weights, *self._engine.statistics]
        own = _copies(working)
        with self.swapped_in():
            average = _copies(working)
        yield partial(_holding, working, average, own)

    def gather(self) -> dict[str, Tensor]:
        """The average by the names of parameters and buffers; on rank 0 (collective)."""
        with self.swapped_in():
            return gather_weights(self._engine)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Make `weights` the average; leaves them in the engine too (collective)."""
        scatter_weights(self._engine, weights)
        self._average = _copies(flat_masters(self._engine))
        self._statistics = _copies(self._engine.statistics)

    @torch.no_grad()
    def _swap(self) -> None:
        averages = [*self._average, *self._statistics]
        own = [*flat_masters(self._engine), *self._engine.statistics]
        for average, value in zip(averages, own, strict=True):
            kept = value.detach().clone()
            value.data.copy_(average)
            average.copy_(kept)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@contextmanager
def _holding(
    tensors: Sequence[Tensor], inside: Sequence[Tensor], after: Sequence[Tensor]
) -> Iterator[None]:
    """Let `tensors` have the values `inside` in this context, and `after` behind it."""
    _copy(tensors, inside)
    try:
        yield
    finally:
        _copy(tensors, after)


@torch.no_grad()
def _copy(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
