"""Norms of channels-first networks, for (B, H, W, C)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of the last dimension."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """(B, H, W, C) -> the same shape."""
        # In memory these are channels-last images, so nothing is moved.
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ImageNorm(nn.GroupNorm):
    """Normalises an image's tokens and channels together, then scales each channel.

    It is GroupNorm with one group; torch's own would copy to the order (B, C, H, W) first.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(1, dim)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """(B, H, W, C) -> the same shape."""
        normed = F.layer_norm(input, input.shape[1:], eps=self.eps)
        return torch.addcmul(self.bias, normed, self.weight)
