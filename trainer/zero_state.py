"""Training state by parameter name, whatever the ZeRO stage and the number of ranks.

DeepSpeed flattens parameters and shares them among ranks. Here the whole float32 state is put
together on rank 0, and taken apart again into an engine of any stage and world size.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from torch import Tensor, nn

from trainer.engine import Engine

MOMENTS = ("exp_avg", "exp_avg_sq")
_SCALER_FIELDS = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class Gatherable(Protocol):
    """What stage 3 adds to a parameter."""

    def all_gather(self, parameters: list[nn.Parameter]) -> None:
        """Make whole, on every rank."""
        ...


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """Weights, their average and Adam's moments, float32 on the CPU, by parameter name.

    Attributes:
        model: parameters and buffers.
        ema: likewise, of the average; empty without EMA.
        moments: for each of `MOMENTS`, parameters only; empty before the first step.
        optimizer_step: Adam's own count of applied steps.
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
        return [p for p in engine.module.parameters() if p.requires_grad]
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
    base = engine.optimizer
    steps = [float(entry["step"]) for entry in base.state.values() if "step" in entry]
    if steps:
        state.optimizer_step = steps[0]
        _link_moments(engine)
        state.moments = {key: _gather(engine, key) for key in MOMENTS}
    scaler = getattr(engine.zero, "loss_scaler", None)
    if getattr(scaler, "dynamic", False):  # fp16; float32 has a constant one
        state.loss_scaler = {name: float(getattr(scaler, name)) for name in _SCALER_FIELDS}
    return state if dist.get_rank() == 0 else None


@torch.no_grad()
def gather_weights(engine: Engine) -> dict[str, Tensor]:
    """Parameters from the masters, and what does not learn; on rank 0 only (collective)."""
    weights = _gather(engine, None)
    for name, parameter in _frozen(engine.module):
        with deepspeed.zero.GatheredParameters([parameter], enabled=engine.stage == 3):
            if dist.get_rank() == 0:
                weights[name] = parameter.detach().to("cpu", copy=True)
    if dist.get_rank() == 0:
        persistent = engine.module.state_dict().keys()
        for name, buffer in engine.module.named_buffers():
            if name in persistent:
                weights[name] = buffer.detach().to("cpu", copy=True)
    return weights


@torch.no_grad()
def scatter_weights(engine: Engine, weights: dict[str, Tensor]) -> None:
    """Put what `gather_weights` gave into the masters and the working weights (collective)."""
    for name, parameter in _parameters(engine.module):
        value = weights[name].to(engine.device)
        if engine.stage == 0:
            parameter.copy_(value)
        else:
            safe_set_full_fp32_param(parameter, value)
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
    """Put Adam's moments and the loss scale into a fresh engine (collective)."""
    base = engine.optimizer
    if state.moments:
        for master in flat_masters(engine):
            step = torch.tensor(state.optimizer_step, device=master.device)
            base.state[master] = {"step": step, **{k: torch.zeros_like(master) for k in MOMENTS}}
        _link_moments(engine)
        for key in MOMENTS:
            for name, parameter in _parameters(engine.module):
                value = state.moments[key][name].to(engine.device)
                if engine.stage == 0:
                    base.state[parameter][key].copy_(value)
                else:
                    safe_set_full_optimizer_state(parameter, value, key)
    scaler = getattr(engine.zero, "loss_scaler", None)
    for name, value in state.loss_scaler.items():
        setattr(scaler, name, value if name == "cur_scale" else int(value))


def _parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)


def _frozen(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that no optimizer has, such as a positional embedding that is a function."""
    return ((name, p) for name, p in module.named_parameters() if not p.requires_grad)


def _gather(engine: Engine, key: str | None) -> dict[str, Tensor]:
    """Masters (key None) or one of Adam's moments, whole, on rank 0's CPU (collective)."""
    whole: dict[str, Tensor] = {}
    for name, parameter in _parameters(engine.module):
        value = _full(engine, parameter, key)
        if dist.get_rank() == 0:
            whole[name] = value.to("cpu", copy=True).contiguous()
    return whole


def _full(engine: Engine, parameter: nn.Parameter, key: str | None) -> Tensor:
    if engine.stage == 0:
        entry = engine.optimizer.state[parameter] if key else {}
        return entry[key] if key else parameter.detach()
    if key is None:
        value = safe_get_full_fp32_param(parameter)
    else:
        value = safe_get_full_optimizer_state(parameter, key)
    assert value is not None
    return value.detach().view(getattr(parameter, "ds_shape", parameter.shape))


def _link_moments(engine: Engine) -> None:
    # DeepSpeed 0.19 links the moments of the first parameter group only; once more links all.
    if engine.stage in (1, 2):
        engine.zero._hp_optimizer_states_linked = False
        engine.zero._lazy_init_hp_params_optimizer_state()


def _copy_into_partition(parameter: nn.Parameter, value: Tensor) -> None:
    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        if dist.get_rank() == 0:
            parameter.data.copy_(value)
