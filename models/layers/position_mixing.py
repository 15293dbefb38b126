"""Linear layers over positions: what a line's tokens exchange, the same for every channel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.resampling import PositionIndexed, announce, resample


def mix_positions(layer: nn.Linear, x: Tensor) -> Tensor:
    """Y[i] = b[i] + sum over j of W[i, j] X[j].

    Args:
        layer: n -> m.
        x: (N, n, K); nothing is transposed, W stands to its left.

    Returns:
        (N, m, K).
    """
    return torch.baddbmm(layer.bias[:, None], layer.weight.expand(x.shape[0], -1, -1), x)


class PositionLinear(nn.Linear, PositionIndexed):
    """From L positions to L positions."""

    def __init__(self, length: int) -> None:
        super().__init__(length, length)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """(N, L, K) -> the same shape."""
        return mix_positions(self, input)

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Inputs are summed over positions; outputs and the bias are positions too."""
        weight = state_dict.get(f"{prefix}weight")
        bias = state_dict.get(f"{prefix}bias")
        new = self.in_features
        if weight is None or bias is None or bias.ndim != 1 or len(bias) in (0, new):
            return
        old = len(bias)
        if weight.shape != (old, old):
            return
        state_dict[f"{prefix}weight"] = resample(weight, (0, 1), new) * (old / new)
        state_dict[f"{prefix}bias"] = resample(bias, (0,), new)
        announce(prefix, old=old, new=new)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic interpolation of the grid, as two products: exactly repeatable, gradients included.

    Args:
        x: (B, H, W, C).
        size: (H', W').

    Returns:
        (B, H', W', C); what torch's interpolate gives without aligned corners.
    """
    rows, columns = (_bicubic(old, new, x) for old, new in zip(x.shape[1:3], size, strict=True))
    x = (rows @ x.flatten(2)).unflatten(2, x.shape[2:])  # (B, H', W, C)
    return (columns @ x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _bicubic(old: int, new: int, like: Tensor) -> Tensor:
    """(new, old) matrix that interpolates a line of `old` entries at `new` places."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    identity = torch.eye(old, dtype=dtype, device=like.device)[None, None]
    matrix = F.interpolate(identity, (new, old), mode="bicubic", align_corners=False)
    return matrix[0, 0].to(like.dtype)
