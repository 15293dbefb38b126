"""Training state by parameter name, whatever the ZeRO stage and the number of ranks.

DeepSpeed flattens parameters and shares them among ranks. Here the whole float32 state is put
together on rank 0, and taken apart again into an engine of any stage and world size. No optimizer's
state is listed here: tensors are shared as their weights are, and numbers travel as tensors without
dimensions, whose type tells what they were.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, cast

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

from trainer.engine import Engine

GROUP_NUMBERS = {"step"}
"""What some optimizers, such as lamb and adan, count in their parameter groups."""
_SCALER_FIELDS = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


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
    for name, parameter in _frozen(engine.module):
        with deepspeed.zero.GatheredParameters([parameter], enabled=engine.stage == 3):
            if dist.get_rank() == 0:
                weights[name] = _on_host(parameter)
    if dist.get_rank() == 0:
        persistent = engine.module.state_dict().keys()
        for name, buffer in engine.module.named_buffers():
            if name in persistent:
                weights[name] = _on_host(buffer)
    _finish_copies(engine)
    return weights


@torch.no_grad()
def scatter_weights(engine: Engine, weights: dict[str, Tensor]) -> None:
    """Put what `gather_weights` gave into the masters and the working weights (collective)."""
    for name, parameter in _parameters(engine.module):
        value = weights[name].to(engine.device)
        if engine.stage == 0:
            parameter.copy_(value)
        else:
            _set_full(engine, parameter, value, None)
            if engine.stage == 3:
                _copy_into_partition(parameter, value)
    for name, parameter in _frozen(engine.module):
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
                    group[key] = _as_it_was(state.moments[key][""])
    scaler = getattr(engine.zero, "loss_scaler", None)
    for name, value in state.loss_scaler.items():
        setattr(scaler, name, value if name == "cur_scale" else int(value))


def _make_entries(engine: Engine, state: TrainingState) -> None:
    """Give the optimizer its state at stage 0, and above it with zeros for what is sharded."""
    named = list(_parameters(engine.module))
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
        for name, parameter in _parameters(engine.module):
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
        value = _as_it_was(moment[name])
        if isinstance(value, Tensor) and value.ndim and engine.stage != 0:
            value = torch.zeros_like(master)
        elif isinstance(value, Tensor) and key != "step":
            value = value.to(master.device, copy=True)
        entry[key] = value
    return entry


def _as_it_was(stored: Tensor) -> Tensor | float | bool:
    """A number of the optimizer's own: Python's are stored in types that no moment has."""
    if stored.ndim == 0 and stored.dtype in (torch.bool, torch.int64, torch.float64):
        return stored.item()
    return stored.clone()


def _parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)


def _frozen(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that no optimizer has, such as a positional embedding that is a function."""
    return ((name, p) for name, p in module.named_parameters() if not p.requires_grad)


def _whole(engine: Engine, shards: list[Tensor]) -> dict[str, Tensor]:
    """What is cut as the masters are, put together; by name, on rank 0's CPU (collective).

    One collective for each of the optimizer's groups: one for each weight would be thousands.
    """
    names, is_main = list(_parameters(engine.module)), dist.get_rank() == 0
    if engine.stage == 0:  # nothing is cut
        named = zip(names, shards, strict=True)
        return {name: _stored(shard) for (name, _), shard in named} if is_main else {}
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
        for name, parameter in _parameters(engine.module):
            for key, value in states.get(parameter, {}).items():
                moments[key][name] = _stored(value)
    else:  # numbers are the same for all shards: layer-wise optimizers are refused there
        for key, value in states[masters[0]].items():
            if isinstance(value, Tensor) and value.ndim:
                moments[key] = _whole(engine, [states[master][key] for master in masters])
            else:
                moments[key] = {name: _stored(value) for name, _ in _parameters(engine.module)}
    for key in GROUP_NUMBERS & engine.optimizer.param_groups[0].keys():
        moments[key][""] = _stored(engine.optimizer.param_groups[0][key])
    return dict(moments)


def _stored(value: Tensor | float | bool) -> Tensor:
    if isinstance(value, Tensor):
        return _on_host(value)
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)


def _on_host(value: Tensor) -> Tensor:
    """A copy in host memory; a GPU fills it, pinned, by the time of `_finish_copies`."""
    if value.device.type != "cuda":
        return value.detach().to("cpu", copy=True).contiguous()
    host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    return host.copy_(value.detach(), non_blocking=True)


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
