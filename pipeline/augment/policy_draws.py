"""Which operations of a policy an image gets, how strong, in which direction and with which filter.

Each is a pure function of (seed, epoch, sample) with a stream of its own, computed for a whole
batch at once. The laws are timm's and torchvision's: see `pipeline.augment.policies.policy`.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.augment import variates
from pipeline.augment.policies.levels import arguments, torchvision_argument, translate_range
from pipeline.augment.policies.operations import RESAMPLING, Filter, Operation, OperationDraws
from pipeline.augment.policies.policy import Policy
from pipeline.counter import DrawKey, Stream, uniforms

Interpolation = Literal["bilinear", "bicubic", "random"]

_Uniforms = Callable[..., NDArray[np.float64]]
"""`uniforms` of one batch: takes the stream and `count`."""
_RADIUS = (0.1, 2.0)
"""timm's GaussianBlurRand draws the radius between the first and a share of the second."""
_RESAMPLES = np.isin(np.arange(len(Operation)), list(RESAMPLING))


class MixedDraws(NamedTuple):
    """AugMix: W chains of up to D operations, mixed with each other and with the image.

    Attributes:
        chains: as usual, but (B, W, D) arrays.
        weights: (B, W) float32 shares of the chains in their mixture; each row sums to 1.
        shares: (B,) float32 share of the mixture in the result.
        blended: chains are blended into the image in turn (timm's option b).
    """

    chains: OperationDraws
    weights: NDArray[np.float32]
    shares: NDArray[np.float32]
    blended: bool


class _Table(NamedTuple):
    """The choices of a policy: (C, S) arrays, shorter choices filled up with NONE."""

    operations: NDArray[np.uint8]
    probabilities: NDArray[np.float64]
    magnitudes: NDArray[np.float64]


def policy_draws(
    policy: Policy,
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    size: int,
    interpolation: Interpolation,
) -> OperationDraws:
    """Return the operations of B images, in order.

    Args:
        policy: what may be done. AugMix's chains come one after the other.
        seed: of the run.
        epoch: counted from 0.
        samples: (B,).
        size: height and width of the images, on which the range of translations depends.
        interpolation: of resampling operations; `random` draws bilinear or bicubic for each.
            torchvision's policy always takes the nearest pixel.

    Returns:
        (B, K) with K layers times the steps of a choice.
    """
    draw = partial(uniforms, seed=seed, epoch=epoch, samples=samples)
    table = _table(policy)
    chosen = _choices(policy, draw)
    shape = (len(samples), -1)
    operations = table.operations[chosen].reshape(shape)
    probabilities = table.probabilities[chosen].reshape(shape)
    count = policy.layers * table.operations.shape[1]
    if table.probabilities.min() < 1:
        applied = draw(Stream.APPLY, count=count) < probabilities
        operations = np.where(applied, operations, np.uint8(Operation.NONE))

    negative = draw(Stream.SIGN, count=count) < 0.5
    if policy.is_torchvision:
        args = _torchvision_args(policy, size)[chosen[..., None].reshape(shape), negative * 1]
        args = np.where(operations == Operation.NONE, np.nan, args)
        return OperationDraws(operations, args, np.zeros(operations.shape, np.uint8))
    magnitudes = _noisy(policy, table.magnitudes[chosen].reshape(shape), draw)
    limits = translate_range(size, policy.translate_share)
    args = arguments(operations, magnitudes, negative, limits)
    if Operation.GaussianBlurRand in table.operations:
        operations, args = _with_radius(operations, args, draw)
    return OperationDraws(operations, args, _filters(operations, interpolation, draw))


def augmix_draws(
    policy: Policy,
    *,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    size: int,
    interpolation: Interpolation,
) -> MixedDraws:
    """Return the chains of B images and how they are mixed; the arguments are `policy_draws`'s."""
    mixing = policy.mixing
    assert mixing is not None
    key: DrawKey = {"seed": seed, "epoch": epoch, "samples": samples}
    drawn = policy_draws(policy, **key, size=size, interpolation=interpolation)
    W, D = mixing.width, mixing.longest
    shape = (len(samples), W, D)
    chains = OperationDraws(
        drawn.operations.reshape(shape), drawn.args.reshape(shape), drawn.filters.reshape(shape)
    )
    if mixing.depth is None:
        depth = 1 + variates.integers(uniforms(Stream.CHAIN_DEPTH, **key, count=W), D)
        chains = chains.where(np.arange(D) < depth[:, :, None])
    count = (W + 2) * variates.GAMMA_DRAWS
    u = uniforms(Stream.CHAIN_WEIGHT, **key, count=count)
    u_weights, u_share = np.split(u, [W * variates.GAMMA_DRAWS], axis=1)
    weights = variates.dirichlet(mixing.alpha, u_weights.reshape(-1, W, variates.GAMMA_DRAWS))
    shares = variates.beta(np.full(len(samples), mixing.alpha), u_share)
    return MixedDraws(
        chains,
        weights.astype(np.float32),
        shares.astype(np.float32),
        mixing.blended,
    )


@lru_cache
def _table(policy: Policy) -> _Table:
    steps = max(map(len, policy.choices))
    table = _Table(
        np.zeros((len(policy.choices), steps), np.uint8),
        np.ones((len(policy.choices), steps)),
        np.zeros((len(policy.choices), steps)),
    )
    for row, choice in enumerate(policy.choices):
        for column, step in enumerate(choice):
            for part, value in zip(table, step, strict=True):
                part[row, column] = value
    return table


@lru_cache
def _torchvision_args(policy: Policy, size: int) -> NDArray[np.float64]:
    """Return the (C, 2) arguments of each choice in the positive and the negative direction."""
    steps = [choice[0] for choice in policy.choices]
    return np.array(
        [
            [
                torchvision_argument(step.operation, int(step.magnitude), sign, size)
                for sign in (1, -1)
            ]
            for step in steps
        ]
    )


def _choices(policy: Policy, draw: _Uniforms) -> NDArray[np.int64]:
    """Return (B, layers) indices of choices."""
    if policy.weights is None:
        u = draw(Stream.OPERATION, count=policy.layers)
        return variates.integers(u, len(policy.choices))
    # Without replacement: the first arrivals of exponential clocks with these rates.
    u = draw(Stream.OPERATION, count=len(policy.weights))
    arrivals = -np.log(1 - u) / np.array(policy.weights)
    return np.argsort(arrivals, axis=1)[:, : policy.layers]


def _noisy(policy: Policy, magnitudes: NDArray[np.float64], draw: _Uniforms) -> NDArray[np.float64]:
    """Return magnitudes with noise, clipped to their range."""
    std, count = policy.magnitude_std, magnitudes.shape[1]
    if np.isinf(std):
        magnitudes = magnitudes * draw(Stream.MAGNITUDE, count=count)
    elif std > 0:
        u = draw(Stream.MAGNITUDE, count=2 * count).reshape(-1, count, 2)
        magnitudes = magnitudes + std * variates.normal(u)
    return np.clip(magnitudes, 0.0, policy.magnitude_max)


def _with_radius(
    operations: NDArray[np.uint8], args: NDArray[np.float64], draw: _Uniforms
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Replace `GaussianBlurRand` by the blur that it draws."""
    here = operations == Operation.GaussianBlurRand
    low, high = _RADIUS
    u = draw(Stream.BLUR_RADIUS, count=operations.shape[1])
    radius = low + (high * args - low) * u
    return (
        np.where(here, np.uint8(Operation.GaussianBlur), operations),
        np.where(here, radius, args),
    )


def _filters(
    operations: NDArray[np.uint8], interpolation: Interpolation, draw: _Uniforms
) -> NDArray[np.uint8]:
    if interpolation == "random":
        is_bicubic = draw(Stream.FILTER, count=operations.shape[1]) < 0.5
        filters = np.where(is_bicubic, np.uint8(Filter.BICUBIC), np.uint8(Filter.BILINEAR))
    else:
        filters = np.uint8(Filter[interpolation.upper()])
    return np.where(_RESAMPLES[operations], filters, np.uint8(Filter.NEAREST))
