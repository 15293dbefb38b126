"""Weights of a small model in files, and what is read from them compared with what was written."""

import timm
import torch

from tests.support.small_models import randomise

NAME = "dynamixer_nano"


def weights_of(seed):
    """A state_dict of the small model with four classes."""
    return randomise(timm.create_model(NAME, num_classes=4), seed=seed).state_dict()


def save(content, path):
    """Write what torch.save takes; returns the path."""
    torch.save(content, path)
    return path


def assert_same(actual, expected):
    """The same names, and the same numbers exactly."""
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], value) for key, value in expected.items())
