"""Run on ranks by test_step_watch.py: spoil gradients, then a loss, at each stage.

Two ranks, two micro-batches of four images a step. At step 3 two gradients of rank 0 are spoiled,
at step 5 the loss of rank 1.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from trainer.batch_plan import BatchPlan
from trainer.engine.engine import Engine
from trainer.engine.process_group import init_process_group
from trainer.events import Note
from trainer.optimization.schedule import ScheduleConfig
from trainer.process.world import bootstrap
from trainer.recipe import BatchConfig, ModelConfig, OptimConfig, Recipe, ZeroConfig
from trainer.record.meta import RunProgress
from trainer.watch.odd_steps import NAME, OddStepList
from trainer.watch.step_watch import StepWatch

STEPS, ROUNDS, PER_GPU = 6, 2, 4


class Small(nn.Module):
    """Weights of odd sizes, so that the pieces of a rank begin and end within them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(7, 13)
        self.norm = nn.LayerNorm(13)
        self.middle = nn.Linear(13, 11)
        self.head = nn.Linear(11, 5)

    def forward(self, images):
        return self.head(self.middle(self.norm(self.stem(images)).relu()).relu())


def check(stage: int, folder: Path) -> dict[str, object]:
    plan = BatchPlan.solve(global_size=16, per_gpu=PER_GPU, world_size=2)
    recipe = Recipe(
        model=ModelConfig(name="small"),
        batch=BatchConfig(global_size=16, per_gpu=PER_GPU),
        optim=OptimConfig(lr=1e-3),
        schedule=ScheduleConfig(epochs=1),
        zero=ZeroConfig(stage=stage),
    )
    torch.manual_seed(0)
    engine = Engine(Small(), recipe, plan)
    names = [name for name, _ in engine.module.named_parameters()]
    rank, notes = dist.get_rank(), []
    odd = OddStepList(folder, step=0) if rank == 0 else None
    watch = StepWatch(names, lambda sample: f"image {sample}", notes.append, odd)
    engine.train()
    settled = mean = 0.0
    for step in range(STEPS):
        hooks = []
        if step + 1 == 3 and rank == 0:
            spoiled = (engine.module.stem.weight, engine.module.head.bias)
            hooks = [weight.register_hook(lambda g: g * float("inf")) for weight in spoiled]
        total, draws = torch.zeros(()), []
        for micro in range(ROUNDS):
            generator = torch.Generator().manual_seed(100 * step + 10 * micro + rank)
            images = torch.randn(PER_GPU, 7, generator=generator)
            loss = F.cross_entropy(engine.forward(images), torch.arange(PER_GPU))
            if step + 1 == 5 and rank == 1:
                loss = loss * float("nan")
            engine.backward(loss)
            engine.step(1e-3)
            total += loss.detach() / ROUNDS
            draws.append(torch.arange(PER_GPU) + 8 * micro + PER_GPU * rank)
        for hook in hooks:
            hook.remove()
        watch.add(RunProgress(step=step), total, engine.gradients, draws)
        if step % 4 == 3 or step + 1 == STEPS:
            settled = watch.settle()
    dist.all_reduce(total)
    mean = total.item() / 2
    assert watch.settle() == settled  # nothing new
    return {
        "settled": settled,
        "mean": mean,
        "notes": [[note.step, note.text] for note in notes if isinstance(note, Note)],
        "lines": [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
        if rank == 0
        else [],
    }


def main() -> None:
    bootstrap()
    init_process_group()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        results = {}
        for stage in sys.argv[1]:
            folder = Path(root, stage)
            folder.mkdir()
            results[stage] = check(int(stage), folder)
    if dist.get_rank() == 0:
        sys.stdout.write(f"RESULT {json.dumps(results)}\n")
    dist.destroy_process_group()


main()
