"""Run under torchrun by test_waits.py: where a step would wait for the device; print JSON.

Each argument is an optimizer and a ZeRO stage, such as `adamw:0`.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

from models.build import build_model
from pipeline.augment.batches import BatchTransform
from pipeline.augment.config import AugmentConfig
from pipeline.batch import Batch
from pipeline.config import InputSpec
from tests.support.host_waits import HostWaits, accelerator_behind_the_back
from trainer.batch_plan import BatchPlan
from trainer.distillation import build_criterion
from trainer.engine import Engine, init_process_group
from trainer.job import Job
from trainer.loop import Trainer
from trainer.optimization.objective import PlainObjective
from trainer.optimization.optim import OptimConfig
from trainer.optimization.schedule import ScheduleConfig
from trainer.process.signals import StopAgreement, StopSignal
from trainer.process.speed import Utilization
from trainer.process.watchdog import Watchdog
from trainer.process.world import bootstrap, host_group
from trainer.recipe import BatchConfig, EmaConfig, ModelConfig, Recipe, ZeroConfig
from trainer.run_config import RunConfig

STEPS, LOG_EVERY, PER_GPU, ROUNDS = 9, 3, 2, 2
MEAN = (0.5, 0.5, 0.5)
SPEC = InputSpec(size=32, mean=MEAN, std=MEAN, crop_pct=1.0, interpolation="bicubic")


class Images:
    """A loader in memory, whose batches are on the device."""

    replaced = 0
    batches_per_epoch = STEPS * ROUNDS

    def __init__(self, waits: HostWaits) -> None:
        self._waits = waits

    def batches(self, epoch, start=0):
        for number in range(STEPS * ROUNDS):
            images = torch.full((PER_GPU, 3, 32, 32), 100 + number, dtype=torch.uint8)
            labels = torch.arange(PER_GPU)
            self._waits.mark(images, labels)
            yield Batch(images, labels, torch.arange(PER_GPU))


def check(name: str, stage: int) -> dict[str, object]:
    """The waits between log events, from the second one on, and how many there are at events."""
    waits = HostWaits()
    with accelerator_behind_the_back(waits):
        trainer, engine = make(name, stage, waits)
        waits.mark(*engine.module.parameters(), *engine.module.buffers())
        between: list[str] = []
        at_events: list[int] = []
        log = trainer._log_step

        def count() -> None:
            between.extend(waits.seen if at_events else [])  # the first steps set up
            waits.seen.clear()
            log()
            at_events.append(len(waits.seen))
            waits.seen.clear()

        trainer._log_step = count
        with waits.watching():
            trainer._train_epoch()
    return {"between": between, "at_events": at_events}


def make(name: str, stage: int, waits: HostWaits) -> tuple[Trainer, Engine]:
    world_size = dist.get_world_size()
    size = PER_GPU * ROUNDS * world_size
    recipe = Recipe(
        model=ModelConfig(name="dynamixer_nano", drop_path_rate=0.1),
        batch=BatchConfig(global_size=size, per_gpu=PER_GPU),
        optim=OptimConfig(name=name, lr=1e-3, clip_norm=1.0),
        schedule=ScheduleConfig(epochs=1),
        augment=AugmentConfig(erase=0.5, mixup=0.2, cutmix=1.0, smoothing=0.1),
        zero=ZeroConfig(stage=stage),
        ema=EmaConfig(decay=0.9),
        run=RunConfig(log_every=LOG_EVERY),
    )
    plan = BatchPlan.solve(global_size=size, per_gpu=PER_GPU, world_size=world_size)
    torch.manual_seed(0)
    engine = Engine(build_model("dynamixer_nano", num_classes=10, drop_path_rate=0.1), recipe, plan)
    transform = BatchTransform(recipe.augment, spec=SPEC, num_classes=10, seed=0)
    criterion = build_criterion(recipe, spec=SPEC, num_classes=10, device=engine.device)
    job = Job(
        recipe=recipe,
        plan=plan,
        train=Images(waits),
        evaluation=Images(waits),
        transform=transform,
        objective=PlainObjective(transform, criterion),
        emit=lambda _: None,
        log_mark=lambda: None,
        stop=StopAgreement(StopSignal(()), host_group()),
        watchdog=Watchdog(0, lambda _: None),
        utilization=Utilization(engine.device, macs=1, dtype="fp32", tf32=False),
        checkpoints=Path(tempfile.gettempdir()),
        data_fingerprint="",
        environment={},
    )
    return Trainer(job, engine), engine


def main() -> None:
    bootstrap()
    init_process_group()
    torch.set_num_threads(1)
    results = {}
    for argument in sys.argv[1:]:
        name, stage = argument.split(":")
        results[argument] = check(name, int(stage))
    if dist.get_rank() == 0:
        sys.stdout.write(f"RESULT {json.dumps(results)}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
