"""The float32 weights that an optimizer steps, whatever the ZeRO stage."""

from collections.abc import Iterator
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from trainer.engine.engine import Engine


class Gatherable(Protocol):
    """What stage 3 adds to a parameter."""

    ds_numel: int
    ds_shape: torch.Size

    def partition_numel(self) -> int:
        """Elements that each rank holds, those that pad included."""
        ...

    def all_gather(self, parameters: list[nn.Parameter]) -> None:
        """Make whole, on every rank."""
        ...


def flat_masters(engine: Engine) -> list[Tensor]:
    """The float32 tensors that this rank's optimizer steps.

    Whole parameters at stage 0, this rank's flat shard of each group above.
    """
    if engine.stage == 0:
        return list(engine.weights)
    if engine.stage == 3:
        return list(engine.zero.fp32_partitioned_groups_flat)
    return list(engine.zero.single_partition_of_fp32_groups)


@torch.no_grad()
def refresh_weights(engine: Engine) -> None:
    """Make the weights that the forward pass uses equal to the masters (collective)."""
    optimizer = engine.zero
    if engine.stage in (1, 2):
        optimizer.update_lp_params()
    elif engine.stage == 3:
        optimizer._partition_all_parameters()  # whole copies would be kept as they are
        for group in range(len(optimizer.fp32_partitioned_groups_flat)):
            optimizer._reassign_or_swap_out_partitioned_parameters(group)
        if optimizer.persistent_parameters:
            first = cast(Gatherable, optimizer.persistent_parameters[0])
            first.all_gather(optimizer.persistent_parameters)


def learning_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that the optimizer steps, with their names."""
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)


def frozen_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that no optimizer has, such as a positional embedding that is a function."""
    return ((name, p) for name, p in module.named_parameters() if not p.requires_grad)
