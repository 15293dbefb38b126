"""Numbers by counter: uniform, unrelated, and the same for ever."""

import math

import numpy as np
import scipy.stats

from pipeline.counter import Stream, random_bits, uniforms


def test_numbers_of_different_keys_are_unrelated():
    variants = [(seed, epoch, stream) for seed in (0, 1) for epoch in (0, 1) for stream in Stream]
    columns = [
        uniforms(stream, seed=seed, epoch=epoch, samples=np.arange(4000), count=2).T
        for seed, epoch, stream in variants
    ]
    correlation = np.corrcoef(np.concatenate(columns)) - np.eye(2 * len(variants))
    assert np.abs(correlation).max() < 6 / math.sqrt(4000)  # 2,016 pairs, six deviations


def test_numbers_are_uniform():
    u = uniforms(Stream.CROP, seed=3, epoch=7, samples=np.arange(5000), count=8)
    assert u.min() >= 0
    assert u.max() < 1
    assert scipy.stats.kstest(u.ravel(), "uniform").pvalue > 1e-3


def test_bits_are_those_of_the_first_release():
    """A changed hash would silently change every run that is resumed."""
    bits = random_bits(Stream.FLIP, seed=1, epoch=2, samples=np.array([0, 5]), count=2)
    assert bits.tolist() == [
        [17526953937045449313, 16383181009133024960],
        [7660607925295205326, 13441989712254277862],
    ]
