"""Run on ranks by test_zero_state.py: train, save, restore at each ZeRO stage; print JSON.

Arguments: the stages, the precision, the optimizers. For each optimizer and stage: six steps
undisturbed, and three steps, state gathered, put into a fresh engine, three more. Then the state of
the first stage goes into an engine of each other stage.
"""

import json
import sys
from itertools import chain

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from models.build import build_model
from trainer.batch_plan import BatchPlan
from trainer.ema import Ema
from trainer.engine.engine import Engine
from trainer.engine.gather import gather_state
from trainer.engine.process_group import init_process_group
from trainer.engine.scatter import scatter_moments, scatter_weights
from trainer.engine.state import TrainingState
from trainer.optimization.schedule import ScheduleConfig
from trainer.process.world import bootstrap
from trainer.recipe import (
    BatchConfig,
    ModelConfig,
    OptimConfig,
    PrecisionConfig,
    Recipe,
    ZeroConfig,
)

GLOBAL, ROUNDS = 16, 2


def small_model() -> nn.Module:
    return build_model("dynamixer_nano", num_classes=10, arguments={"depths": (1, 1)})


def make(stage: int, dtype: str, name: str, fixed: float = 0.1) -> tuple[Engine, Ema]:
    """An engine and its average; one parameter, all of it `fixed`, does not learn."""
    per_gpu = GLOBAL // ROUNDS // dist.get_world_size()
    recipe = Recipe(
        model=ModelConfig(name="dynamixer_nano"),
        batch=BatchConfig(global_size=GLOBAL, per_gpu=per_gpu),
        optim=OptimConfig(name=name, lr=1e-3, clip_norm=1.0),
        schedule=ScheduleConfig(epochs=2),
        zero=ZeroConfig(stage=stage),
        precision=PrecisionConfig(dtype=dtype),
    )
    torch.manual_seed(0)
    model = small_model()
    model.get_parameter("norm.bias").requires_grad_(requires_grad=False).fill_(fixed)
    model.register_buffer("of_rank", torch.tensor(float(dist.get_rank())), persistent=False)
    plan = BatchPlan.solve(global_size=GLOBAL, per_gpu=per_gpu, world_size=dist.get_world_size())
    engine = Engine(model, recipe, plan)
    return engine, Ema(engine, 0.9)


def train(engine: Engine, ema: Ema, steps: range) -> list[list[float | None]]:
    """[loss, gradient norm] of each step; the images are a function of the step."""
    engine.train()
    log = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(GLOBAL, 3, 32, 32, generator=generator)
        labels = torch.randint(0, 10, (GLOBAL,), generator=generator)
        mine = torch.arange(GLOBAL).reshape(ROUNDS, dist.get_world_size(), -1)[:, dist.get_rank()]
        total = torch.zeros((), device=engine.device)
        for chosen in mine:
            inputs = images[chosen].contiguous(memory_format=torch.channels_last)
            logits = engine.forward(inputs.to(engine.device)).float()
            loss = F.cross_entropy(logits, labels[chosen].to(engine.device))
            engine.backward(loss)
            engine.step(1e-3)
            total += loss.detach() / ROUNDS
        ema.update(step)
        dist.all_reduce(total)
        log.append([total.item() / dist.get_world_size(), engine.grad_norm()])
    return log


def gather(engine: Engine, ema: Ema) -> TrainingState:
    state = gather_state(engine)
    average = ema.gather()
    box = [state]
    if state is not None:
        state.ema = average
    dist.broadcast_object_list(box, src=0)
    assert box[0] is not None
    return box[0]


def restore(stage: int, dtype: str, name: str, state: TrainingState) -> tuple[Engine, Ema]:
    engine, ema = make(stage, dtype, name, fixed=0.7)  # what is restored must not be the new one's
    ema.load(state.ema)
    scatter_weights(engine, state.model)
    scatter_moments(engine, state)
    return engine, ema


def equal(a: TrainingState, b: TrainingState) -> bool:
    pairs = (
        (a.model, b.model),
        (a.ema, b.ema),
        *((a.moments[key], b.moments[key]) for key in a.moments),
    )
    assert a.moments.keys() == b.moments.keys()
    assert any(a.moments.values())
    tensors = chain.from_iterable(((x[name], y[name]) for name in x) for x, y in pairs)
    return a.optimizer_step == b.optimizer_step and all(torch.equal(x, y) for x, y in tensors)


def ema_forward_error(engine: Engine, ema: Ema, state: TrainingState) -> float:
    """Distance of the engine's forward with the average swapped in from a plain model's."""
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(99))
    images = images.to(engine.device)
    plain = small_model().eval().to(engine.device)
    plain.load_state_dict(state.ema)
    with ema.swapped_in(), torch.no_grad():
        engine.eval()
        return (engine.forward(images) - plain(images)).abs().max().item()


def check(stage: int, dtype: str, name: str) -> tuple[dict[str, object], TrainingState]:
    engine, ema = make(stage, dtype, name)
    whole = train(engine, ema, range(6))
    end = gather(engine, ema)
    engine, ema = make(stage, dtype, name)
    train(engine, ema, range(3))
    middle = gather(engine, ema)
    engine, ema = restore(stage, dtype, name, middle)
    rest = train(engine, ema, range(3, 6))
    again = gather(engine, ema)
    error = ema_forward_error(engine, ema, again) if dtype == "fp32" else 0.0
    return {
        "whole": whole,
        "resumed": whole[:3] + rest,
        "same_state": equal(end, again),
        "ema_forward_error": error,
        "unsaved_buffer": engine.module.get_buffer("of_rank").item(),
    }, middle


def main() -> None:
    bootstrap()
    init_process_group()
    torch.set_num_threads(1)
    stages, dtype = [int(stage) for stage in sys.argv[1]], sys.argv[2]
    results: dict[str, object] = {}
    for name in sys.argv[3:]:
        states = {}
        for stage in stages:
            results[f"{name}_{stage}"], states[stage] = check(stage, dtype, name)
        for stage in stages[1:]:
            engine, ema = restore(stage, dtype, name, states[stages[0]])
            results[f"{name}_moved_to_{stage}"] = train(engine, ema, range(3, 6))
    if dist.get_rank() == 0:
        sys.stdout.write(f"RESULT {json.dumps(results)}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
