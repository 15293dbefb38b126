"""Training state by parameter name, whatever the ZeRO stage and the number of ranks.

No optimizer's state is listed here: tensors are shared as their weights are, and numbers travel as
tensors without dimensions, whose type tells what they were.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

GROUP_NUMBERS = {"step"}
"""What some optimizers, such as lamb and adan, count in their parameter groups."""


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """Weights, their average and the optimizer's moments, float32 on the CPU, by parameter name.

    Attributes:
        model: parameters and buffers.
        ema: likewise, of the average; empty without EMA.
        moments: for each of the optimizer's own keys, such as Adam's exp_avg, trained parameters
            only, and "" for what it counts for all; empty before the first step.
        optimizer_step: the optimizer's own count of applied steps, where it has one for each weight
            and all are equal; 0 otherwise.
        loss_scaler: fields of fp16's dynamic loss scale; empty otherwise.
    """

    model: dict[str, Tensor] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    optimizer_step: float = 0.0
    loss_scaler: dict[str, float] = field(default_factory=dict)

    def not_finite(self) -> list[str]:
        """Names of the tensors that hold an infinity or NaN."""
        groups = {"model": self.model, "ema": self.ema, **self.moments}
        return [
            f"{group}/{name}"
            for group, named in groups.items()
            for name, tensor in named.items()
            if tensor.is_floating_point() and not torch.isfinite(tensor).all()
        ]


def stored(value: Tensor | float | bool) -> Tensor:
    """`value`, on the CPU; numbers of Python in types that no moment has."""
    if isinstance(value, Tensor):
        return on_host(value)
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)


def as_it_was(kept: Tensor) -> Tensor | float | bool:
    """What `stored` was given."""
    if kept.ndim == 0 and kept.dtype in (torch.bool, torch.int64, torch.float64):
        return kept.item()
    return kept.clone()


def on_host(value: Tensor) -> Tensor:
    """A copy in host memory; a GPU fills it, pinned, once its stream is through."""
    if value.device.type != "cuda":
        return value.detach().to("cpu", copy=True).contiguous()
    host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    return host.copy_(value.detach(), non_blocking=True)
