"""The optimizer and its parameter groups."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Imported only where it is used: a recipe, which has these options, is checked in no time.
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019); biases and one-dimensional weights are not decayed."""

    lr: float
    """Peak learning rate for the global batch as it is: nothing is scaled behind your back."""
    weight_decay: float = 0.05
    """Share of a weight, times the learning rate, that is taken off it at each step."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of the gradient and of its square."""
    eps: float = 1e-8
    """Added to the root of the average square."""
    clip_norm: float = 0.0
    """Largest gradient norm; 0 does not clip."""
    decay_all: bool = False
    """Decay biases and norms too, as the ConvMixer family's CIFAR recipe does."""

    def __post_init__(self) -> None:
        for name in ("lr", "eps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        for name in ("weight_decay", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), got {list(self.betas)}")


def parameter_groups(model: "nn.Module", config: OptimConfig) -> list[dict[str, object]]:
    """Decayed weights, and those that are not: biases, norms and what the model exempts.

    Groups are never empty, since ZeRO cannot flatten an empty one.
    """
    exempt = getattr(model, "no_weight_decay", set)()
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        spared = parameter.ndim <= 1 or name.endswith(".bias") or name in exempt
        (undecayed if spared and not config.decay_all else decayed).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: "nn.Module", config: OptimConfig) -> "torch.optim.Optimizer":
    """AdamW; the fused kernel needs no build and gives the same values at every ZeRO stage."""
    from torch.optim import AdamW

    return AdamW(
        parameter_groups(model, config),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )
