"""The optimizer and its parameter groups."""

import torch
from torch import nn

from trainer.recipe import OptimConfig


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, object]]:
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


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW; the fused kernel needs no build and gives the same values at every ZeRO stage."""
    return torch.optim.AdamW(
        parameter_groups(model, config),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )
