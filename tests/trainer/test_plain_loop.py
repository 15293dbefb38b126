"""The engine against a loop as timm's train.py has it, of torch and timm alone: same losses."""

import copy
from functools import cache

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from models.build import build_model
from trainer.batch_plan import BatchPlan
from trainer.ema import Ema
from trainer.engine.engine import Engine
from trainer.engine.gather import gather_weights
from trainer.engine.process_group import init_process_group
from trainer.optimization.loss import LossConfig, training_loss
from trainer.optimization.optim import OptimConfig
from trainer.optimization.schedule import ScheduleConfig, lr_at
from trainer.process.world import bootstrap
from trainer.recipe import BatchConfig, ModelConfig, Recipe, ZeroConfig

STEPS, STEPS_PER_EPOCH, BATCH, LR, DECAY = 50, 10, 8, 1e-3, 0.9
SIZES = {"dynamixer_nano": 32, "splitmixer_i_256_8": 16}
"""Pixels; convolutions take any number, and half as many take a quarter of the time."""


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            patch.setenv(name, "")
            patch.delenv(name)
        bootstrap()
        init_process_group()
        yield
        dist.destroy_process_group()


def batch(step: int, name: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(BATCH, 3, SIZES[name], SIZES[name], generator=generator)
    return images, torch.rand(BATCH, 10, generator=generator).softmax(1)


def fresh(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, num_classes=10)


@cache
def ours(name: str, stage: int, per_gpu: int) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of each step, and the average at the end."""
    schedule = ScheduleConfig(
        epochs=STEPS // STEPS_PER_EPOCH,
        cosine_from="start",  # timm's, unless it is told otherwise
        warmup_epochs=1,
        warmup_lr=1e-5,
        min_lr=1e-5,
    )
    recipe = Recipe(
        model=ModelConfig(name=name),
        batch=BatchConfig(global_size=BATCH, per_gpu=per_gpu),
        optim=OptimConfig(lr=LR, weight_decay=0.05, clip_norm=1.0),
        schedule=schedule,
        zero=ZeroConfig(stage=stage),
    )
    plan = BatchPlan.solve(global_size=BATCH, per_gpu=per_gpu, world_size=1)
    engine = Engine(fresh(name), recipe, plan)
    ema = Ema(engine, DECAY)
    losses = []
    engine.train()
    for step in range(STEPS):
        lr = lr_at(step, lr=LR, config=schedule, steps_per_epoch=STEPS_PER_EPOCH)
        total = 0.0
        for images, targets in zip(
            *(part.split(per_gpu) for part in batch(step, name)), strict=True
        ):
            loss = training_loss(engine.forward(images), targets, LossConfig())
            engine.backward(loss)
            engine.step(lr)
            total += loss.item() / plan.accumulation
        ema.update(step)
        losses.append(total)
    with ema.swapped_in():
        return losses, gather_weights(engine)


@cache
def plain(name: str) -> tuple[list[float], dict[str, Tensor]]:
    """The same with torch and timm alone."""
    model = fresh(name).train()
    average = ModelEmaV3(copy.deepcopy(model), decay=DECAY)
    groups = param_groups_weight_decay(model, 0.05)
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.999), eps=1e-8)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=STEPS,
        lr_min=1e-5,
        warmup_t=STEPS_PER_EPOCH,
        warmup_lr_init=1e-5,
        warmup_prefix=False,
        t_in_epochs=False,
    )
    losses = []
    for step in range(STEPS):
        images, targets = batch(step, name)
        scheduler.step_update(step)
        loss = F.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        losses.append(loss.item())
    return losses, average.module.state_dict()


def largest_difference(losses: list[float], expected: list[float]) -> float:
    far = max(abs(mine - other) for mine, other in zip(losses, expected, strict=True))
    print(f"largest difference of {len(losses)} losses: {far:.2g}")  # noqa: T201  # pytest -rP
    return far


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stage"), [("dynamixer_nano", 0), ("dynamixer_nano", 1), ("splitmixer_i_256_8", 1)]
)
def test_fifty_steps_are_those_of_a_plain_timm_style_loop(process_group, name, stage):
    losses, average = ours(name, stage, BATCH)
    expected, expected_average = plain(name)
    assert largest_difference(losses, expected) <= 1e-5
    assert len(set(losses)) == STEPS
    for key, weight in expected_average.items():
        if weight.is_floating_point():
            torch.testing.assert_close(average[key], weight, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1])
def test_accumulated_small_batches_equal_the_large_batch(process_group, stage):
    whole, _ = ours("dynamixer_nano", stage, BATCH)
    parts, _ = ours("dynamixer_nano", stage, BATCH // 4)
    assert largest_difference(parts, whole) <= 1e-5
