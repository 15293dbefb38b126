"""RaftMLP's embedding: patches of several sizes around the same places, as one convolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.basic import embed
from models.layers.position_mixing import resize


class CrossEmbed(nn.Module):
    """Convolutions of several kernels with one stride, added: (B, in_chans, height, width) in.

    Images that are no multiple of the stride are interpolated to the next one, as the authors do.

    Args:
        in_chans: channels of the images.
        dim: width of the tokens.
        kernels: sides of the kernels; the first is the stride, the patch of a token.
    """

    def __init__(self, in_chans: int, dim: int, kernels: Sequence[int]) -> None:
        super().__init__()
        stride = kernels[0]
        if any(k < stride or (k - stride) % 2 for k in kernels):
            raise ValueError(
                f"kernels: {tuple(kernels)}: the first is the patch, and each other must reach "
                "beyond it by the same number of pixels on both sides"
            )
        self.stride = stride
        self.convs = nn.ModuleList(
            nn.Conv2d(in_chans, dim, k, stride, (k - stride) // 2, bias=number == 0)
            for number, k in enumerate(kernels)
        )
        # The authors' is one linear layer of all kernels' pixels.
        bound = (in_chans * sum(k * k for k in kernels)) ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, dim)."""
        size = images.shape[2:]
        whole = (size[0] + -size[0] % self.stride, size[1] + -size[1] % self.stride)
        if size != whole:
            images = resize(images.permute(0, 2, 3, 1), whole).permute(0, 3, 1, 2)
        weights = [conv.get_parameter("weight") for conv in self.convs]
        widest = max(weight.shape[-1] for weight in weights)
        margins = [(widest - weight.shape[-1]) // 2 for weight in weights]
        padded = [F.pad(w, [m] * 4) if m else w for w, m in zip(weights, margins, strict=True)]
        weight = sum(padded[1:], start=padded[0])
        bias = self.convs[0].get_parameter("bias")
        padding = (widest - self.stride) // 2
        return embed(images, weight, bias, stride=self.stride, padding=padding)


class CrossEmbedBetween(CrossEmbed):
    """The same applied to (B, H, W, C)."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, dim)."""
        return super().forward(images.permute(0, 3, 1, 2))
