"""Random numbers by counter: each one is a pure function of its key, so there is no state to save.

The key is (seed, epoch, stream, sample, slot). Its parts are absorbed one after the other by the
output function of SplitMix64 (Steele et al. 2014, https://doi.org/10.1145/2714064.2660195); the
slots of one sample are a SplitMix64 sequence, whose output passes BigCrush. Only integer operations
are used, so the numbers are the same on every machine and with every version of NumPy.
"""

from enum import IntEnum
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

_MASK = 2**64 - 1
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)


class Stream(IntEnum):
    """What a number is drawn for. A new purpose gets a new number; renumbering changes all runs."""

    ORDER = 0
    SHARDS = 1
    CROP = 2
    FLIP = 3
    INTERPOLATION = 4
    ERASE = 5
    NOISE = 6
    MIX = 7
    NOISE_BANK = 8
    OPERATION = 9
    APPLY = 10
    MAGNITUDE = 11
    SIGN = 12
    FILTER = 13
    BLUR_RADIUS = 14
    CHAIN_DEPTH = 15
    CHAIN_WEIGHT = 16
    JITTER_APPLY = 17
    JITTER_ORDER = 18
    JITTER_FACTOR = 19
    GRAYSCALE = 20
    BLUR = 21
    VERTICAL_FLIP = 22
    PADDED_CROP = 23
    ERASE_COUNT = 24
    ERASE_MORE = 25
    ERASE_COLOR = 26
    MIX_TOKEN = 27
    DROP_PATH = 28


class DrawKey(TypedDict):
    """The arguments that all draws of B samples share."""

    seed: int
    epoch: int
    samples: NDArray[np.int64]


def random_bits(
    stream: Stream, *, seed: int, epoch: int, samples: NDArray[np.int64], count: int
) -> NDArray[np.uint64]:
    """Return (N, count) uniform 64-bit integers, `count` for each sample."""
    state = np.zeros(1, np.uint64)
    for part in (seed, epoch, stream):
        state = _absorb(state, np.array([part & _MASK], np.uint64))
    state = _absorb(state, samples.astype(np.uint64))
    return _absorb(state[:, None], np.arange(count, dtype=np.uint64)[None])


def uniforms(
    stream: Stream, *, seed: int, epoch: int, samples: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Return (N, count) numbers from [0, 1): multiples of 2^-53, uniform."""
    bits = random_bits(stream, seed=seed, epoch=epoch, samples=samples, count=count)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a bijection of the 64-bit integers that looks random: SplitMix64's from state 0."""
    return _absorb(np.zeros(1, np.uint64), values)


def _absorb(state: NDArray[np.uint64], part: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix `part` into `state`; for a given state, different parts never collide."""
    z = state + _GAMMA * (part + np.uint64(1))
    z = (z ^ (z >> np.uint64(30))) * _FACTOR_1
    z = (z ^ (z >> np.uint64(27))) * _FACTOR_2
    return z ^ (z >> np.uint64(31))
