"""From the layouts in which checkpoints were published to ours: names and shapes."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor


def as_matrices(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same, with the weights of 1x1 convolutions, (out, in, 1, 1), as those of linear layers.

    A network on (B, C, H, W) has the former where ours, on (B, H, W, C), has the latter.
    """
    return {
        key: weight.flatten(1) if weight.ndim == 4 and weight.shape[2:] == (1, 1) else weight
        for key, weight in weights.items()
    }


def renamed(key: str, rules: Sequence[tuple[str, str]]) -> str:
    """A key by the first of the rules, (pattern of the whole key, template), that matches it."""
    for pattern, template in rules:
        if found := re.fullmatch(pattern, key):
            return found.expand(template)
    return key
