"""Run on ranks by test_evaluation.py: one pass with both kinds of weights, and two passes.

Arguments: the precision and the ZeRO stages, such as `fp32:0123`. Prints JSON.
"""

import json
import sys
from contextlib import nullcontext
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from models.build import build_model
from pipeline.batch import IGNORE_LABEL, Batch
from trainer.batch_plan import BatchPlan
from trainer.ema import Ema
from trainer.engine.engine import Engine
from trainer.engine.gather import gather_weights
from trainer.engine.process_group import init_process_group
from trainer.evaluation import Evaluator
from trainer.optimization.optim import OptimConfig
from trainer.optimization.schedule import ScheduleConfig
from trainer.process.world import bootstrap
from trainer.recipe import BatchConfig, ModelConfig, PrecisionConfig, Recipe, ZeroConfig
from trainer.record.report.writer import NoReport

PER_RANK, BATCHES = 6, 3


class Images:
    """A loader in memory; the last batch of each rank is padded. Counts what is asked for."""

    def __init__(self):
        self.asked = 0

    def batches(self, epoch):
        for number in range(BATCHES):
            self.asked += 1
            generator = torch.Generator().manual_seed(10 * number + dist.get_rank())
            images = torch.randn(PER_RANK, 3, 32, 32, generator=generator)
            labels = torch.randint(0, 10, (PER_RANK,), generator=generator)
            if number == BATCHES - 1:
                labels[-2:] = IGNORE_LABEL
            yield Batch(images, labels, labels)


def trained(stage: int, dtype: str) -> tuple[Engine, Ema]:
    recipe = Recipe(
        model=ModelConfig(name="dynamixer_nano"),
        batch=BatchConfig(global_size=PER_RANK * dist.get_world_size(), per_gpu=PER_RANK),
        optim=OptimConfig(lr=1e-2),
        schedule=ScheduleConfig(epochs=2),
        zero=ZeroConfig(stage=stage),
        precision=PrecisionConfig(dtype=dtype),
    )
    torch.manual_seed(0)
    world_size = dist.get_world_size()
    size = PER_RANK * world_size
    plan = BatchPlan.solve(global_size=size, per_gpu=PER_RANK, world_size=world_size)
    model = build_model("dynamixer_nano", num_classes=10, arguments={"depths": (1, 1)})
    model.register_buffer("statistic", torch.tensor(float(dist.get_rank())))
    engine = Engine(model, recipe, plan)
    ema = Ema(engine, 0.5)
    engine.train()
    for step, batch in enumerate(Images().batches(0)):
        labels = batch.labels.clamp(min=0)
        engine.backward(F.cross_entropy(engine.forward(batch.images).float(), labels))
        engine.step(1e-2)
        model.statistic += 1
        ema.update(step)
    return engine, ema


class Kept(NoReport):
    """The first rank's view of what is said of each image."""

    def evaluated(self, judged, event):
        self.said = {
            "count": len(judged.labels),
            "ordered": bool((judged.samples[1:] >= judged.samples[:-1]).all()),
            "top1": 100 * float((judged.predicted == judged.labels).mean()),
            "loss": -float(np.log(judged.right.astype(np.float64)).mean()),
            "sure": bool((judged.confidence >= judged.right).all()),
        }


def evaluated(
    engine: Engine,
    ema: Ema | None,
    asked_to_stop: bool = False,
    report: NoReport | None = None,
):
    """What is logged, what is returned, and how many batches were asked for."""
    images, events = Images(), []
    job = SimpleNamespace(
        evaluation=images,
        transform=SimpleNamespace(evaluate=lambda batch: batch.images),
        stop=SimpleNamespace(poll=lambda: asked_to_stop),
        emit=events.append,
        report=report or NoReport(),
    )
    last = Evaluator(job, engine, ema).evaluate(step=3, epoch=1)
    return [asdict(event) for event in events], last and asdict(last), images.asked


def check(stage: int, dtype: str) -> dict[str, object]:
    engine, ema = trained(stage, dtype)
    engine.average_buffers()
    before, average = gather_weights(engine), ema.gather()
    two_passes = []
    for kind in (nullcontext, ema.swapped_in):
        with kind():
            two_passes += evaluated(engine, None)[0]
    stopped = evaluated(engine, ema, asked_to_stop=True)
    kept = Kept()
    one_pass, last, asked = evaluated(engine, ema, report=kept)
    after, average_after = gather_weights(engine), ema.gather()
    again = evaluated(engine, None)[0]
    return {
        "two_passes": two_passes,
        "one_pass": one_pass,
        "last": last,
        "asked": asked,
        "judged": kept.said,
        "stopped": stopped,
        "again": again,
        "same_weights": all(torch.equal(before[name], after[name]) for name in before),
        "statistics": [float(each.get("statistic", 0.0)) for each in (before, average)],
        "same_average": all(torch.equal(average[n], average_after[n]) for n in average),
    }


def main() -> None:
    bootstrap()
    init_process_group()
    torch.set_num_threads(1)
    results = {}
    for argument in sys.argv[1:]:
        dtype, stages = argument.split(":")
        results |= {f"{dtype} {stage}": check(int(stage), dtype) for stage in stages}
    if dist.get_rank() == 0:
        sys.stdout.write(f"RESULT {json.dumps(results)}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
