"""The state of an engine, put together on rank 0.

DeepSpeed flattens parameters and shares them among ranks; here the whole float32 state comes out.
"""

from collections import defaultdict
from typing import cast

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor

from trainer.engine.engine import Engine
from trainer.engine.masters import (
    Gatherable,
    flat_masters,
    frozen_parameters,
    learning_parameters,
)
from trainer.engine.state import GROUP_NUMBERS, TrainingState, on_host, stored

_SCALER_FIELDS = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


@torch.no_grad()
def gather_state(engine: Engine) -> TrainingState | None:
    """The state without the average: complete on rank 0, None elsewhere (collective)."""
    engine.average_buffers()
    state = TrainingState(model=gather_weights(engine))
    if engine.optimizer.state:
        state.moments = _gather_moments(engine)
        _finish_copies(engine)
        state.optimizer_step = _take_common_step(state.moments)
    scaler = getattr(engine.zero, "loss_scaler", None)
    if getattr(scaler, "dynamic", False):  # fp16; float32 has a constant one
        state.loss_scaler = {name: float(getattr(scaler, name)) for name in _SCALER_FIELDS}
    return state if dist.get_rank() == 0 else None


@torch.no_grad()
def gather_weights(engine: Engine) -> dict[str, Tensor]:
    """Parameters from the masters, and what does not learn; on rank 0 only (collective)."""
    weights = _whole(engine, flat_masters(engine))
    for name, parameter in frozen_parameters(engine.module):
        with deepspeed.zero.GatheredParameters([parameter], enabled=engine.stage == 3):
            if dist.get_rank() == 0:
                weights[name] = on_host(parameter)
    if dist.get_rank() == 0:
        persistent = engine.module.state_dict().keys()
        for name, buffer in engine.module.named_buffers():
            if name in persistent:
                weights[name] = on_host(buffer)
    _finish_copies(engine)
    return weights


def _whole(engine: Engine, shards: list[Tensor]) -> dict[str, Tensor]:
    """What is cut as the masters are, put together; by name, on rank 0's CPU (collective).

    One collective for each of the optimizer's groups: one for each weight would be thousands.
    """
    names, is_main = list(learning_parameters(engine.module)), dist.get_rank() == 0
    if engine.stage == 0:  # nothing is cut
        named = zip(names, shards, strict=True)
        return {name: stored(shard) for (name, _), shard in named} if is_main else {}
    whole: dict[int, Tensor] = {}
    for number, shard in enumerate(shards):
        gathered = shard.new_empty(dist.get_world_size() * shard.numel())
        dist.all_gather_into_tensor(gathered, shard.detach())
        if is_main:
            of_ranks = gathered.view(dist.get_world_size(), -1).to("cpu")
            whole |= _taken_apart(engine, number, of_ranks)
    return {name: whole[id(parameter)] for name, parameter in names} if is_main else {}


def _taken_apart(engine: Engine, number: int, gathered: Tensor) -> dict[int, Tensor]:
    """Values of the weights of group `number`, by their identity, from its shards (ranks, N)."""
    zero, values = engine.zero, {}
    if engine.stage == 3:  # each weight is cut among the ranks
        start = 0
        for parameter in zero.fp16_groups[number]:
            cut = cast(Gatherable, parameter)
            end = start + cut.partition_numel()
            value = gathered[:, start:end].flatten()[: cut.ds_numel]
            values[id(parameter)] = value.view(cut.ds_shape).clone()
            start = end
        return values
    flat = gathered.flatten()  # the group is cut, with all of its weights in a row
    offsets = zero.round_robin_bit16_offsets[number]
    for parameter, start in zip(zero.round_robin_bit16_groups[number], offsets, strict=True):
        value = flat[start : start + parameter.numel()]
        values[id(parameter)] = value.view(parameter.shape).clone()
    return values


def _gather_moments(engine: Engine) -> dict[str, dict[str, Tensor]]:
    """What the optimizer keeps, by its own keys and the parameters' names (collective)."""
    moments: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    states = engine.optimizer.state
    masters = flat_masters(engine)
    if engine.stage == 0:
        for name, parameter in learning_parameters(engine.module):
            for key, value in states.get(parameter, {}).items():
                moments[key][name] = stored(value)
    else:  # numbers are the same for all shards: layer-wise optimizers are refused there
        for key, value in states[masters[0]].items():
            if isinstance(value, Tensor) and value.ndim:
                moments[key] = _whole(engine, [states[master][key] for master in masters])
            else:
                moments[key] = {
                    name: stored(value) for name, _ in learning_parameters(engine.module)
                }
    for key in GROUP_NUMBERS & engine.optimizer.param_groups[0].keys():
        moments[key][""] = stored(engine.optimizer.param_groups[0][key])
    return dict(moments)


def _finish_copies(engine: Engine) -> None:
    if engine.device.type == "cuda":
        torch.cuda.current_stream(engine.device).synchronize()


def _take_common_step(moments: dict[str, dict[str, Tensor]]) -> float:
    """Remove and return the count of steps that all weights have in common; 0 if there is none."""
    steps = list(moments.get("step", {}).values())
    numbers = {step.item() for step in steps}
    counted = all(len(moment) == len(steps) for moment in moments.values())
    if len(numbers) != 1 or not counted or steps[0].dtype != torch.float32 or "" in moments["step"]:
        return 0.0
    if numbers == {0.0}:  # all steps so far were skipped: as before the first one
        moments.clear()
        return 0.0
    del moments["step"]
    return numbers.pop()
