"""What a model costs on images of a size: parameters, multiply-adds, tokens; counted, not run."""

import copy
from dataclasses import dataclass
from typing import cast

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.build import input_config
from models.kernels import switch


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one image of the size that the model was built for."""

    parameters: int
    macs: int | None
    """Multiply-adds of matrix products and convolutions in the forward pass; None: not known."""
    tokens: int | None
    """Positions that are left after the last block; None: not known."""
    area: float | None
    """The image's area over that of the images that the variant is meant for."""


def model_cost(model: nn.Module, name: str) -> Cost:
    """The cost of `model`, which timm calls `name`; it is left as it is."""
    size = input_config(model).size
    macs, tokens = _count(model, size)
    meant = timm.get_pretrained_cfg(name)
    area = None
    if meant is not None and meant.input_size is not None:
        area = size[0] * size[1] / (meant.input_size[1] * meant.input_size[2])
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters=parameters, macs=macs, tokens=tokens, area=area)


def _count(model: nn.Module, size: tuple[int, int]) -> tuple[int | None, int | None]:
    """Multiply-adds and last tokens, from a copy without numbers in it if that runs."""
    for device in ("meta", "cpu"):
        shadow = copy.deepcopy(model).to(device).eval()
        for parameter in shadow.parameters():
            parameter.requires_grad = False
        images = torch.zeros(1, 3, *size, device=device)
        counter = FlopCounterMode(display=False)
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad(), switch.off():
                with counter:
                    shadow(images)
                forward = getattr(shadow, "forward_features", None)
                features = None if forward is None else forward(images)
        except RuntimeError:  # no such operation there, or it looks at the numbers
            continue
        return counter.get_total_flops() // 2, _tokens(shadow, features)
    return None, None


def _tokens(model: nn.Module, features: object) -> int | None:
    """Positions of features (1, N, C), (1, H, W, C) or (1, C, H, W)."""
    if not isinstance(features, Tensor):
        return None
    channels = cast("int | None", getattr(model, "num_features", None))
    if features.ndim == 3 and features.shape[2] == channels:
        return features.shape[1] - int(getattr(model, "num_prefix_tokens", 0))
    if features.ndim == 4 and channels in (features.shape[1], features.shape[3]):
        return features[0].numel() // channels
    return None
