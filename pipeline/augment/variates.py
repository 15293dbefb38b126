"""Variates of the laws that augmentation needs, from the uniforms of `pipeline.counter`.

Each takes a fixed count of uniforms, so that a draw depends on nothing but its key.
"""

import numpy as np
from numpy.typing import NDArray

_GAMMA_TRIES = 16
"""Each is accepted with probability > 0.95, so that all fail once in 10^20 draws."""
GAMMA_DRAWS = 1 + 3 * _GAMMA_TRIES
"""Uniforms that one gamma variate takes."""


def between(limits: tuple[float, float], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn uniforms into numbers of [low, high)."""
    return limits[0] + (limits[1] - limits[0]) * u


def integers(u: NDArray[np.float64], limit: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Turn uniforms into uniform integers of [0, limit)."""
    return (u * limit).astype(np.int64)


def normal(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (...,) standard normal variates from (..., 2) uniforms (Box and Muller 1958)."""
    return np.sqrt(-2 * np.log(1 - u[..., 0])) * np.cos(2 * np.pi * u[..., 1])


def beta(alpha: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (P,) draws from Beta(alpha, alpha) from (P, 2 GAMMA_DRAWS) uniforms.

    A draw is the share of one of two gamma variates. Their logarithms are compared: for a small
    alpha both may underflow.
    """
    first = log_gamma(alpha, u[:, :GAMMA_DRAWS])
    second = log_gamma(alpha, u[:, GAMMA_DRAWS:])
    return 1 / (1 + np.exp(np.clip(second - first, -700, 700)))


def dirichlet(alpha: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (P, W) draws from Dirichlet(alpha, ..., alpha) from (P, W, GAMMA_DRAWS) uniforms."""
    P, W, _ = u.shape
    logs = log_gamma(np.full(P * W, alpha), u.reshape(P * W, GAMMA_DRAWS)).reshape(P, W)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def log_gamma(alpha: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of (P,) draws from Gamma(alpha, 1), from (P, GAMMA_DRAWS) uniforms.

    Marsaglia and Tsang 2000 (https://doi.org/10.1145/358407.358414) for Gamma(alpha + 1), which
    works for every alpha, times U^(1 / alpha), which leads back to Gamma(alpha).
    """
    u = 1 - u  # (0, 1]: logarithms stay finite
    tries = u[:, 1:].reshape(-1, _GAMMA_TRIES, 3)
    gaussian = np.sqrt(-2 * np.log(tries[..., 0])) * np.cos(2 * np.pi * tries[..., 1])
    d = (alpha + 2 / 3)[:, None]
    root = 1 + gaussian / np.sqrt(9 * d)
    log_v = 3 * np.log(np.maximum(root, 1e-9))
    bound = 0.5 * gaussian**2 + d * (1 - np.exp(log_v) + log_v)
    first = first_accepted((root > 0) & (np.log(tries[..., 2]) < bound))
    return np.log(d[:, 0]) + log_v[first] + np.log(u[:, 0]) / np.maximum(alpha, 1e-12)


def first_accepted(accepted: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the index of the first accepted try of each row (the first of all if none is)."""
    return np.arange(len(accepted)), accepted.argmax(axis=1)
