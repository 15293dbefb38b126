"""What the transcribed papers do to each token by itself, over channels last and channels first."""

import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim if out_dim is None else out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., out_dim), which is dim if not given."""
        return self.fc2(F.gelu(self.fc1(x)))


class Pointwise(nn.Linear):
    """A 1x1 convolution of (B, C, H, W), its weight kept as a matrix."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class PointwiseMlp(nn.Module):
    """Two 1x1 convolutions and a GELU between them."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc1 = Pointwise(dim, hidden_dim)
        self.fc2 = Pointwise(hidden_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        return self.fc2(F.gelu(self.fc1(x)))
