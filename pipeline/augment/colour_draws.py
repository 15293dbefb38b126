"""Colour jitter, grayscale and blur: what torchvision's transforms do after timm's policy.

Draws are pure functions of (seed, epoch, sample), as in `pipeline.augment.policy_draws`. Grayscale
is timm's `Desaturate` with argument 1, which makes the same picture.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.augment import variates
from pipeline.augment.policies.operations import Operation, OperationDraws
from pipeline.counter import DrawKey, Stream, uniforms

_JITTERED = (Operation.Brightness, Operation.Contrast, Operation.Color, Operation.Hue)
_SIGMA = (0.1, 2.0)
"""Range of the blur's standard deviation in pixels: timm's choice."""


def jittered(strengths: tuple[float, float, float, float]) -> dict[Operation, float]:
    """Return the operations of a colour jitter, with those strengths that are not 0."""
    pairs = zip(_JITTERED, strengths, strict=True)
    return {operation: strength for operation, strength in pairs if strength > 0}


def jitter_draws(
    strengths: tuple[float, float, float, float],
    *,
    probability: float,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
) -> OperationDraws:
    """Return the colour jitter of B images: those operations whose strength is not 0, in any order.

    Args:
        strengths: of brightness, contrast, saturation and hue. Factors of the first three are
            uniform in [max(0, 1 - strength), 1 + strength], turns of the hue in +-strength.
        probability: that an image is jittered at all.
        seed: of the run.
        epoch: counted from 0.
        samples: (B,).

    Returns:
        (B, K) with K the number of strengths that are not 0.
    """
    key: DrawKey = {"seed": seed, "epoch": epoch, "samples": samples}
    active = jittered(strengths)
    count = len(active)
    codes = np.array(list(active), np.uint8)
    limits = np.array([_limits(operation, strength) for operation, strength in active.items()])
    low, high = limits[:, 0], limits[:, 1]
    values = low + (high - low) * uniforms(Stream.JITTER_FACTOR, **key, count=count)

    order = np.argsort(uniforms(Stream.JITTER_ORDER, **key, count=count), axis=1)
    operations, args = codes[order], np.take_along_axis(values, order, axis=1)
    drawn = OperationDraws(operations, args, np.zeros(operations.shape, np.uint8))
    if probability >= 1:
        return drawn
    return drawn.where(uniforms(Stream.JITTER_APPLY, **key, count=1) < probability)


def grayscale_draws(
    probability: float, *, seed: int, epoch: int, samples: NDArray[np.int64]
) -> OperationDraws:
    """Return (B, 1): which images lose their colours."""
    u = uniforms(Stream.GRAYSCALE, seed=seed, epoch=epoch, samples=samples, count=1)
    return _single(Operation.Desaturate, np.ones(u.shape)).where(u < probability)


def blur_draws(
    probability: float, *, seed: int, epoch: int, samples: NDArray[np.int64]
) -> OperationDraws:
    """Return (B, 1): which images are blurred, and how much."""
    u = uniforms(Stream.BLUR, seed=seed, epoch=epoch, samples=samples, count=2)
    sigma = variates.between(_SIGMA, u[:, 1:])
    return _single(Operation.GaussianBlur23, sigma).where(u[:, :1] < probability)


def _limits(operation: Operation, strength: float) -> tuple[float, float]:
    if operation == Operation.Hue:
        return -strength, strength
    return max(0.0, 1 - strength), 1 + strength


def _single(operation: Operation, args: NDArray[np.float64]) -> OperationDraws:
    operations = np.full(args.shape, operation, np.uint8)
    return OperationDraws(operations, args, np.zeros(args.shape, np.uint8))
