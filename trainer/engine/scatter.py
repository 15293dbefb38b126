"""A whole state, taken apart into an engine of any stage and world size."""

from typing import cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

from trainer.engine.engine import Engine
from trainer.engine.masters import (
    Gatherable,
    flat_masters,
    frozen_parameters,
    learning_parameters,
    refresh_weights,
)
from trainer.engine.state import GROUP_NUMBERS, TrainingState, as_it_was


@torch.no_grad()
def scatter_weights(engine: Engine, weights: dict[str, Tensor]) -> None:
    """Put what `gather_weights` gave into the masters and the working weights (collective)."""
    for name, parameter in learning_parameters(engine.module):
        value = weights[name].to(engine.device)
        if engine.stage == 0:
            parameter.copy_(value)
        else:
            _set_full(engine, parameter, value, None)
            if engine.stage == 3:
                _copy_into_partition(parameter, value)
    for name, parameter in frozen_parameters(engine.module):
        if engine.stage == 3:
            _copy_into_partition(parameter, weights[name])
        else:
            parameter.copy_(weights[name])
    refresh_weights(engine)
    for name, buffer in engine.module.named_buffers():
        if name in weights:
            buffer.copy_(weights[name])


@torch.no_grad()
def scatter_moments(engine: Engine, state: TrainingState) -> None:
    """Put the optimizer's moments and the loss scale into a fresh engine (collective)."""
    if state.moments or state.optimizer_step:
        _make_entries(engine, state)
        _fill_shards(engine, state)
        for key in GROUP_NUMBERS & state.moments.keys():
            if "" in state.moments[key]:
                for group in engine.optimizer.param_groups:
                    group[key] = as_it_was(state.moments[key][""])
    scaler = getattr(engine.zero, "loss_scaler", None)
    for name, value in state.loss_scaler.items():
        setattr(scaler, name, value if name == "cur_scale" else int(value))


def _make_entries(engine: Engine, state: TrainingState) -> None:
    """Give the optimizer its state at stage 0, and above it with zeros for what is sharded."""
    named = list(learning_parameters(engine.module))
    if engine.stage == 0:
        for name, parameter in named:
            engine.optimizer.state[parameter] = _entry(engine, state, name, parameter)
    else:
        for master in flat_masters(engine):
            engine.optimizer.state[master] = _entry(engine, state, named[0][0], master)


def _fill_shards(engine: Engine, state: TrainingState) -> None:
    """Put whole moments into the shards of each rank (collective)."""
    if engine.stage == 0:
        return
    _link_moments(engine)
    for key, moment in state.moments.items():
        for name, parameter in learning_parameters(engine.module):
            if name in moment and moment[name].ndim:
                value = moment[name].to(engine.device)
                _set_full(engine, parameter, value, key)


def _entry(
    engine: Engine, state: TrainingState, name: str, master: Tensor
) -> dict[str, Tensor | float | bool]:
    """The optimizer's state of `master`: of the parameter `name`, or zeros of a flat shard."""
    entry: dict[str, Tensor | float | bool] = {}
    fused = bool(engine.optimizer.defaults.get("fused"))
    if state.optimizer_step:
        step = torch.tensor(state.optimizer_step, device=master.device if fused else "cpu")
        entry["step"] = step
    for key, moment in state.moments.items():
        if name not in moment:
            continue
        value = as_it_was(moment[name])
        if isinstance(value, Tensor) and value.ndim and engine.stage != 0:
            value = torch.zeros_like(master)
        elif isinstance(value, Tensor) and key != "step":
            value = value.to(master.device, copy=True)
        entry[key] = value
    return entry


def _set_full(engine: Engine, parameter: nn.Parameter, value: Tensor, key: str | None) -> None:
    """Make `value` the master of a parameter, or the moment `key` of it, above stage 0."""
    if engine.stage == 3:
        # DeepSpeed 0.19 cannot set whole values that the ranks do not share evenly.
        piece = _own_piece(cast(Gatherable, parameter), value)
        if key is None:
            safe_set_local_fp32_param(parameter, piece)
        else:
            safe_set_local_optimizer_state(parameter, piece, key)
    elif key is None:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, key)


def _own_piece(parameter: Gatherable, value: Tensor) -> Tensor:
    """This rank's part of a whole value; zeros fill up the last one."""
    size = parameter.partition_numel()
    whole = value.new_zeros(size * dist.get_world_size())
    whole[: value.numel()] = value.flatten()
    return whole.narrow(0, size * dist.get_rank(), size)


def _link_moments(engine: Engine) -> None:
    # DeepSpeed 0.19 links the moments of the first parameter group only; once more links all.
    if engine.stage in (1, 2):
        engine.zero._hp_optimizer_states_linked = False
        engine.zero._lazy_init_hp_params_optimizer_state()


def _copy_into_partition(parameter: nn.Parameter, value: Tensor) -> None:
    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        if dist.get_rank() == 0:
            parameter.data.copy_(value)
