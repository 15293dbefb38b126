"""LayerNorm under autocast, in the type of what it is given.

CUDA's autocast computes LayerNorm in float32 and hands it on so; the linear layer behind it casts
back. That is 6 bytes more for each number, which float32 is not needed for: the kernel sums in
float32 in any case, and the linear layer would round to bfloat16 anyway. Autocast on a CPU does
without, too.
"""

import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm
from torch import Tensor, nn


class HalfLayerNorm(nn.LayerNorm):
    """LayerNorm whose output has its input's type; its weights stay float32."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """(..., *normalized_shape) -> the same shape and type."""
        kind = input.device.type
        if input.dtype == torch.float32 or not torch.is_autocast_enabled(kind):
            return super().forward(input)
        weight, bias = (None if p is None else p.to(input.dtype) for p in (self.weight, self.bias))
        with torch.autocast(kind, enabled=False):
            return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


def norms_in_half(model: nn.Module) -> None:
    """Let every LayerNorm of `model` be a `HalfLayerNorm`; names of weights stay as they are."""
    for module in model.modules():
        if type(module) in (nn.LayerNorm, LayerNorm):
            module.__class__ = HalfLayerNorm
