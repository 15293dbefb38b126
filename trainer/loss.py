"""The training loss."""

import torch.nn.functional as F
from torch import Tensor


def soft_target_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of -sum_k targets_k log softmax(logits)_k, in float32.

    Args:
        logits: (B, K), any floating dtype.
        targets: (B, K) float32, rows summing to 1 (smoothed and mixed labels).

    Returns:
        A float32 scalar.
    """
    return -(targets * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1).mean()
