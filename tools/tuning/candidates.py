"""What is tried, the most promising first, since the budget of time may end before all of it."""

import importlib.util
from typing import Literal

import torch
from torch import nn

from models.memory_layout import depthwise_convolutions
from trainer.run_config import Layout
from trainer.tuning.choice import Choice

Compiler = tuple[
    Literal["none", "blocks", "model"], Literal["default", "reduce-overhead", "max-autotune"]
]


def candidates(model: nn.Module, device: torch.device, *, compiles: bool) -> list[Choice]:
    """All choices for `model`; the first is the default.

    Args:
        model: of which it depends whether depthwise convolutions have a layout of their own.
        device: CUDA graphs, which `reduce-overhead` records, and the fused kernels need a GPU.
        compiles: whether to try torch.compile, which takes a minute and more for each kind.
    """
    is_cuda = device.type == "cuda"
    kernels = (False, True) if is_cuda and importlib.util.find_spec("triton") else (False,)
    layouts: list[Layout] = ["channels_last", "contiguous"]
    if depthwise_convolutions(model):
        layouts.insert(1, "contiguous_depthwise")
    compilers: list[Compiler] = [("none", "default")]
    if compiles:
        compilers.extend([("blocks", "default"), ("model", "default")])
    if compiles and is_cuda:
        compilers.extend([("model", "reduce-overhead"), ("model", "max-autotune")])
    chosen = [
        Choice(layout=layout, kernels=fused, compile=how, compile_mode=mode)
        for how, mode in compilers
        for layout in layouts
        for fused in kernels
    ]
    # The compiler chooses layouts itself: what it is given matters less, and is tried last.
    return sorted(chosen, key=lambda c: c.compile != "none" and c.layout != "channels_last")
