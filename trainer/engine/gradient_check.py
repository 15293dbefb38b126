"""Which weights' gradients are not finite, kept on the device until somebody reads it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class GradientCheck(NamedTuple):
    """What is known of the gradients of an optimizer step, before anyone has waited for it.

    Attributes:
        names: of the weights, in the order of the model; where gradients are shared among ranks,
            those that this rank has a piece of.
        odd: (len(names),) bool on the gradients' device: where one is not finite, or its norm
            exceeds float32.
        skipped: () float32, 1 where the step was skipped.
    """

    names: tuple[str, ...]
    odd: Tensor
    skipped: Tensor


def gradient_norms(gradients: Sequence[Tensor]) -> Tensor:
    """(len(gradients),) norms of tensors of one dtype and device, in a few kernels."""
    # torch's own clipping computes them so; it returns none but their norm.
    return torch.stack(torch._foreach_norm(list(gradients)))  # pyright: ignore[reportPrivateImportUsage]


def check_pieces(pieces: Sequence[tuple[str, Tensor]]) -> GradientCheck:
    """Look at the pieces of the gradients of a step that was skipped; waits for them."""
    odd = [not bool(torch.isfinite(piece).all()) for _, piece in pieces]
    names = tuple(name for name, _ in pieces)
    return GradientCheck(names, torch.tensor(odd, dtype=torch.bool), torch.ones(()))
