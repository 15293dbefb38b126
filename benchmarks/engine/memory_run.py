"""The same training twice, on batches that lie in memory: by our trainer, and by hand.

By hand means torch alone, DistributedDataParallel where there are several ranks, as a careful user
would write it: fused AdamW, gradients as views of DDP's buckets, one foreach call for the average.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import timm
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import models  # noqa: F401  # registers the families
from models.build import compile_in_place
from pipeline.augment.batches import BatchTransform
from pipeline.augment.config import AugmentConfig
from pipeline.batch import Batch, Loader
from pipeline.config import InputSpec
from trainer.batch_plan import BatchPlan
from trainer.distillation import build_criterion
from trainer.engine.engine import Engine
from trainer.job import Job
from trainer.loop import Trainer
from trainer.objective import PlainObjective
from trainer.optimization.loss import LossConfig, training_loss
from trainer.optimization.model_draws import ModelDraws
from trainer.optimization.optim import OptimConfig, build_optimizer
from trainer.optimization.parameter_groups import parameter_groups
from trainer.optimization.schedule import ScheduleConfig
from trainer.process.signals import StopAgreement, StopSignal
from trainer.process.speed import Utilization
from trainer.process.watchdog import Watchdog
from trainer.process.world import choose_device, host_group
from trainer.recipe import (
    BatchConfig,
    EmaConfig,
    ModelConfig,
    PrecisionConfig,
    Recipe,
    ZeroConfig,
)
from trainer.run_config import RunConfig
from trainer.watch.step_watch import StepWatch

NUM_CLASSES, LR, CLIP, DECAY = 10, 1e-3, 1.0, 0.9
_MEAN = (0.5, 0.5, 0.5)
_ENDLESS = 10**6
"""Steps of an epoch: none ends while it is measured."""
Step = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is trained.

    Attributes:
        model: a name of timm's.
        arguments: of its constructor, beyond the recipe's.
        size: height and width of the images.
        per_rank: images of a step on a rank.
        accumulation: micro-batches of a step.
        dtype: bf16 is autocast.
        compiled: block by block; by hand and by our trainer.
    """

    model: str
    size: int
    per_rank: int
    arguments: dict[str, Any] = field(default_factory=dict)
    accumulation: int = 1
    dtype: Literal["fp32", "bf16"] = "fp32"
    compiled: bool = False

    def recipe(self, stage: int, *, optimizer: str = "adamw", log_every: int = _ENDLESS) -> Recipe:
        """Return the recipe at a ZeRO stage."""
        return Recipe(
            model=ModelConfig(name=self.model),
            batch=BatchConfig(
                global_size=self.per_rank * dist.get_world_size(),
                per_gpu=self.per_rank // self.accumulation,
            ),
            optim=OptimConfig(name=optimizer, lr=LR, weight_decay=0.05, clip_norm=CLIP),
            schedule=ScheduleConfig(epochs=1),
            augment=AugmentConfig(mixup=0.2, smoothing=0.1),
            precision=PrecisionConfig(dtype=self.dtype),
            zero=ZeroConfig(stage=stage),  # pyright: ignore[reportArgumentType]
            ema=EmaConfig(decay=DECAY),
            run=RunConfig(log_every=log_every, watchdog_s=0),
        )

    def build(self) -> nn.Module:
        """Return the model, always with the same weights."""
        torch.manual_seed(0)
        create = cast("Callable[..., nn.Module]", timm.create_model)
        return create(self.model, num_classes=NUM_CLASSES, **self.arguments)


class InMemory:
    """A loader of batches that are on the device already."""

    replaced = 0

    def __init__(
        self, case: Case, *, steps: int = _ENDLESS, mark: Callable[..., None] = lambda *_: None
    ) -> None:
        """Make images for an epoch of `steps`; `mark` is told of each batch's tensors."""
        self._count = case.per_rank // case.accumulation
        self.batches_per_epoch = steps * case.accumulation
        generator = torch.Generator().manual_seed(0)
        shape = (self._count, 3, case.size, case.size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        device = choose_device()
        self._images = images.to(device).contiguous(memory_format=torch.channels_last)
        self._labels = torch.arange(self._count, device=device) % NUM_CLASSES
        self._mark = mark

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the same batch for ever."""
        while True:
            self._mark(self._images, self._labels)
            yield Batch(self._images, self._labels, torch.arange(self._count))

    def close(self) -> None:
        """Nothing is held."""


def trainer_of(case: Case, recipe: Recipe, loader: Loader) -> tuple[Trainer, Engine]:
    """Our trainer, ready, with everything that a run has but a log."""
    plan = BatchPlan.solve(
        global_size=recipe.batch.global_size,
        per_gpu=recipe.batch.known_per_gpu,
        world_size=dist.get_world_size(),
    )
    model = case.build()
    draws = ModelDraws(model, seed=recipe.run.seed, rank=dist.get_rank())
    engine = Engine(model, recipe, plan)
    if case.compiled:
        compile_in_place(model, blocks=True)
    transform = _transform(case, recipe)
    spec, device = _spec(case), engine.device
    criterion = build_criterion(recipe, spec=spec, num_classes=NUM_CLASSES, device=device)
    job = Job(
        recipe=recipe,
        plan=plan,
        train=loader,
        evaluation=loader,
        transform=transform,
        objective=PlainObjective(transform, criterion),
        draws=draws,
        emit=lambda _: None,
        log_mark=lambda: None,
        stop=StopAgreement(StopSignal(()), host_group()),
        watchdog=Watchdog(0, lambda _: None),
        watch=StepWatch([name for name, _ in model.named_parameters()], str, lambda _: None, None),
        utilization=Utilization(device, macs=None, dtype="fp32", tf32=False),
        checkpoints=Path(tempfile.gettempdir()),
        data_fingerprint="",
        environment={},
    )
    return Trainer(job, engine), engine


def our_step(case: Case, stage: int, *, polls: bool = True) -> Step:
    """A step of the trainer's, with the poll that follows it or without."""
    loader = InMemory(case)
    trainer, engine = trainer_of(case, case.recipe(stage), loader)
    engine.train()
    batches = loader.batches(0)

    def step() -> None:
        trainer._train_step(batches, bounded=True)
        if polls:
            trainer._job.stop.poll()

    return step


def plain_step(case: Case) -> Step:
    """The same computation in a loop by hand."""
    recipe, model = case.recipe(0), case.build().train().to(choose_device())
    if case.compiled:
        compile_in_place(model, blocks=True)
    weights: list[torch.Tensor] = list(model.parameters())
    optimizer = build_optimizer(model, parameter_groups(model, recipe.optim), recipe.optim)
    average = [weight.detach().clone() for weight in weights]
    ranks = dist.get_world_size()
    forward = DistributedDataParallel(model, gradient_as_bucket_view=True) if ranks > 1 else model
    device, is_half = weights[0].device, case.dtype == "bf16"
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=is_half)
    transform, batches = _transform(case, recipe), InMemory(case).batches(0)
    return partial(_by_hand, forward, weights, optimizer, average, transform, batches, autocast)


def _by_hand(
    forward: nn.Module,
    weights: list[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    average: list[torch.Tensor],
    transform: BatchTransform,
    batches: Iterator[Batch],
    autocast: torch.autocast,
) -> None:
    images, targets = transform.train(next(batches), 0)
    with autocast:
        logits = forward(images)
    training_loss(logits, targets, LossConfig()).backward()
    torch.nn.utils.clip_grad_norm_(weights, CLIP)
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            average, weights, 1 - DECAY
        )


def _spec(case: Case) -> InputSpec:
    return InputSpec(size=case.size, mean=_MEAN, std=_MEAN, crop_pct=1.0, interpolation="bicubic")


def _transform(case: Case, recipe: Recipe) -> BatchTransform:
    return BatchTransform(recipe.augment, spec=_spec(case), num_classes=NUM_CLASSES, seed=0)
