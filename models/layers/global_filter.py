"""A filter over the whole token grid, learned as its response to each frequency (GFNet).

Y = irfft2(K * rfft2(X)) over rows and columns of every channel (Rao et al., NeurIPS 2021,
https://arxiv.org/abs/2107.00645). The transforms are written as products with their matrices, in
real numbers: grids are small enough for that to cost as little as an FFT, nothing has to be moved
in memory, and compilers and exporters, which stop at complex numbers, take it as it is.

Shapes: B images, H W grid, C channels, F = W // 2 + 1 frequencies along a row, [2] real, imaginary.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.layers.resampling import PositionIndexed, announce, resize_grid


class GlobalFilter(PositionIndexed):
    """The filter of one block.

    Args:
        dim: channels C.
        grid: rows and columns of tokens.
    """

    to_row_frequencies: Tensor
    to_frequencies: Tensor
    from_frequencies: Tensor
    from_row_frequencies: Tensor

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        columns = grid[1] // 2 + 1
        self.complex_weight = nn.Parameter(torch.randn(grid[0], columns, dim, 2) * 0.02)
        self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        """Make the transforms where the weights are (timm: `reinit_non_persistent_buffers`)."""
        weight = self.complex_weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        for name, matrix in transforms(*self.grid).items():
            self.register_buffer(name, matrix.to(weight.device, dtype), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """As any module; but a change of precision makes the transforms anew, not rounded twice."""
        super()._apply(fn, recurse)
        self.init_non_persistent_buffers()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape and dtype, computed in at least float32."""
        # The meta device, on which models are counted, has no autocast and refuses the question.
        if x.is_meta or not torch.is_autocast_enabled(x.device.type):
            return self._filtered(x)
        with torch.autocast(x.device.type, enabled=False):  # it would round to half precision
            return self._filtered(x)

    def _filtered(self, x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        F = W // 2 + 1
        response = self.complex_weight.to(self.to_frequencies.dtype)
        y = self.to_row_frequencies @ x.to(response.dtype)  # (B, H, 2 F, C)
        y = self.to_frequencies @ y.view(B, 2 * H, F * C)
        (real, imaginary), (a, b) = y.view(B, H, 2, F, C).unbind(2), response.unbind(3)
        y = torch.stack([real * a - imaginary * b, real * b + imaginary * a], dim=2)
        y = self.from_frequencies @ y.view(B, 2 * H, F * C)
        return (self.from_row_frequencies @ y.view(B, H, 2 * F, C)).to(x.dtype)

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Resize the response as a picture of H x F points whose corners stay: the authors' way."""
        key = f"{prefix}complex_weight"
        stored, ours = state_dict.get(key), self.complex_weight
        if stored is None or stored.ndim != 4 or stored.shape[:2] == ours.shape[:2]:
            return
        if stored.shape[2:] != ours.shape[2:]:
            return
        size = (ours.shape[0], ours.shape[1])
        state_dict[key] = resize_grid(stored, size, align_corners=True)
        announce(key, old=stored.shape[0], new=size[0])


def transforms(height: int, width: int) -> dict[str, Tensor]:
    """The four matrices of the two transforms and their inverses, in float64.

    Along a row, W real numbers become the real parts of F coefficients, then the imaginary ones;
    along a column, H pairs of (real, imaginary) become H pairs. The inverse along a row counts a
    frequency twice that stands for its conjugate too, and drops what is imaginary.
    """
    frequencies = torch.arange(width // 2 + 1, dtype=torch.float64)
    angle = frequencies[:, None] * torch.arange(width, dtype=torch.float64) * (2 * math.pi / width)
    cosine, sine = angle.cos(), angle.sin()  # (F, W)
    has_conjugate = (frequencies > 0) & (2 * frequencies < width)
    count = (1 + has_conjugate.double())[:, None] / width
    rows = torch.arange(height, dtype=torch.float64)
    angle = rows[:, None] * rows * (2 * math.pi / height)  # (frequency, row)
    real, imaginary = angle.cos(), -angle.sin()
    pairs = torch.stack(
        [torch.stack([real, -imaginary], 2), torch.stack([imaginary, real], 2)], dim=1
    )  # (frequency, 2, row, 2)
    pairs = pairs.reshape(2 * height, 2 * height)
    return {
        "to_row_frequencies": torch.cat([cosine, -sine]),
        "to_frequencies": pairs,
        "from_frequencies": pairs.t() / height,
        "from_row_frequencies": torch.cat([count * cosine, -count * sine]).t(),
    }
