"""The model's own randomness: drop path keyed by the sample, the rest by the rank and the step.

Which samples skip which block is a pure function of (seed, epoch, sample, block), so it is the same
on any number of ranks, at any place in any batch. Dropout masks single numbers, inside of layers
that know of no samples: its key is (seed, step, micro-batch, rank), so it repeats in a resumed run,
and differs where the number of ranks changes.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.dealt_paths import DealtPaths
from models.layers.basic import DRAWS
from pipeline.batch import Batch, send
from pipeline.counter import Stream, random_bits


class ModelDraws:
    """Sets what a model draws, before each forward pass in training.

    Attributes:
        of_ranks: what still draws by rank, in words; empty if nothing does.
    """

    def __init__(self, model: nn.Module, *, seed: int, rank: int) -> None:
        """Take `model` before an engine has it; `seed` is the run's."""
        self._paths = DealtPaths(model)
        self._seed = seed
        self._rank = rank
        self.of_ranks = _dropouts(model) or ", ".join(self._paths.left_out[:3])

    def begin(self, batch: Batch, *, epoch: int, step: int, micro: int) -> None:
        """Set the draws of a micro-batch; the host waits for nothing."""
        torch.manual_seed(_seed_of(self._seed, step, micro, self._rank))
        if count := self._paths.count:
            samples = batch.samples.numpy()
            draws = path_draws(samples, seed=self._seed, epoch=epoch, count=count)
            self._paths.deal(send(draws, batch.images.device))


def path_draws(
    samples: NDArray[np.int64], *, seed: int, epoch: int, count: int
) -> NDArray[np.int32]:
    """Return (count, B) whole numbers, uniform below `DRAWS`: one for each branch and sample."""
    bits = random_bits(Stream.DROP_PATH, seed=seed, epoch=epoch, samples=samples, count=count)
    return np.ascontiguousarray((bits % np.uint64(DRAWS)).astype(np.int32).T)


def _dropouts(model: nn.Module) -> str:
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
    ]
    return f"dropout ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def _seed_of(*key: int) -> int:
    """Seed of what draws by rank, from (run seed, step, micro-batch, rank)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
