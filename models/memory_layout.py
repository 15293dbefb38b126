"""In which order of memory convolutions see their images.

Images come channels-last, which is the order of linear layers and fastest for most convolutions. A
library may be faster channel after channel ("contiguous"), for depthwise convolutions of large
kernels above all: cuDNN has no fast one for 9 x 9 channels-last, and the copies cost less.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Layout = Literal["channels_last", "contiguous", "contiguous_depthwise"]


def keep_layout(model: nn.Module, layout: Layout) -> None:
    """Make `model` compute in `layout`; numbers differ in rounding only.

    Args:
        model: of channels-last images; before it is compiled.
        layout: `channels_last` changes nothing, `contiguous` is about the whole model,
            `contiguous_depthwise` about each of its depthwise convolutions alone.
    """
    if layout == "contiguous":
        model.register_forward_pre_hook(_to_contiguous)
    elif layout == "contiguous_depthwise":
        for convolution in depthwise_convolutions(model):
            convolution.register_forward_pre_hook(_to_contiguous)
            convolution.register_forward_hook(_to_channels_last)


def depthwise_convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """Those with a filter a channel that are larger than a pixel."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
        and module.groups == module.in_channels > 1
        and max(module.kernel_size) > 1
    ]


def _to_contiguous(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    images, *others = inputs
    return images.contiguous(), *others


def _to_channels_last(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.contiguous(memory_format=torch.channels_last)
