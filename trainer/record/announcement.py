"""What a run says on the terminal when it starts and when it is complete."""

from pathlib import Path

import torch

from models.cost import Cost
from pipeline.formats.source import Source
from pipeline.words import counted, duration
from trainer.batch_plan import BatchPlan
from trainer.events import MIN_CLASSES_TOP5, Evaluated, Started
from trainer.process.world import World
from trainer.recipe import Recipe
from trainer.record.meta import RunProgress, Tally
from trainer.record.run_folder import next_commands

LARGE_AREA = 9
"""Times the meant area from which a size is rather a mistake than a choice: 672 for a model of 224,
96 for one of 32."""


def started(
    recipe: Recipe,
    world: World,
    plan: BatchPlan,
    sources: tuple[Source, Source],
    *,
    cost: Cost,
    size: int,
    folder: Path,
    step: int,
    total: int,
) -> Started:
    """What starts: model, data, machine, batch, folder, and what looks wrong.

    Args:
        recipe: of the run.
        world: this process among all.
        plan: how the global batch is made.
        sources: the training and the validation images.
        cost: of the model on one image.
        size: height and width of the images in pixels.
        folder: of the run.
        step: optimizer steps done before.
        total: optimizer steps of the run.
    """
    train, val = sources
    epochs = recipe.schedule.total_epochs
    lines = (
        f"model    {recipe.model.name}: {_in_words(cost)}, on images of {size}x{size}",
        f"data     {recipe.data.root}: {counted(len(train.classes), 'class', 'classes')},"
        f" {counted(len(train), 'training image')}, {counted(len(val), 'validation image')}",
        f"length   {counted(epochs, 'epoch')} of {counted(total // epochs, 'step')}",
        f"machine  {_device_name(world)}, {recipe.precision.dtype}, ZeRO stage {recipe.zero.stage}",
        f"batch    {recipe.batch.global_size} = {counted(plan.world_size, 'rank')} x {plan.per_gpu}"
        f" per_gpu x {plan.accumulation} accumulated",
        f"folder   {folder}",
        *size_warnings(recipe.model.name, cost, size),
    )
    return Started(
        step=step,
        total_steps=total,
        epochs=epochs,
        batch=recipe.batch.global_size,
        num_classes=len(train.classes),
        compile=recipe.run.compile,
        lines=lines,
    )


def _in_words(cost: Cost) -> str:
    parts = [f"{cost.parameters / 1e6:.2f} M parameters"]
    if cost.macs is not None:
        parts.append(f"{cost.macs / 1e9:.3g} G multiply-adds")
    if cost.tokens is not None:
        parts.append(counted(cost.tokens, "token"))
    return ", ".join(parts)


def _device_name(world: World) -> str:
    if world.device.type == "cuda":
        return torch.cuda.get_device_name(world.device)
    return f"CPU ({counted(torch.get_num_threads(), 'thread')} a rank)"


def size_warnings(name: str, cost: Cost, size: int) -> list[str]:
    """What makes an image size a likely mistake."""
    lines = []
    if cost.tokens == 1:
        lines.append(
            f"warning: of images of {size}x{size}, {name} has one token left, which mixes with"
            " nothing; set model.img_size higher, or take a model for small images"
        )
    if cost.area is not None and cost.area >= LARGE_AREA:
        lines.append(
            f"warning: images of {size}x{size} have {cost.area:.0f} times the area that {name} is"
            f" meant for, and cost at least {cost.area:.0f} times as much; set model.img_size"
            " lower, or take a model for large images"
        )
    return lines


def closing_words(
    result: Evaluated, progress: RunProgress, tally: Tally, *, num_classes: int, folder: Path
) -> str:
    """The result of a run that is complete, its cost and place, and what to do with it."""
    weights = "the EMA weights" if result.ema else "the weights"
    top5 = f", top-5 {result.top5:.2f} %" if num_classes >= MIN_CLASSES_TOP5 else ""
    best = max(progress.best_top1, result.top1)
    return "\n".join(
        [
            f"complete: top-1 {result.top1:.2f} %{top5} of {counted(result.count, 'image')}"
            f" ({weights} at the end; the best evaluation had {best:.2f} %)",
            f"{counted(progress.epoch, 'epoch')} in {duration(tally.wall_s)},"
            f" {tally.images_per_s:,.0f} images/s; all files are in {folder}",
            "What comes next:",
            *(f"  {command}" for command in next_commands(folder)),
        ]
    )


def summary(
    result: Evaluated, progress: RunProgress, tally: Tally
) -> dict[str, float | int | bool]:
    """The contents of `summary.json`."""
    return {
        "top1": result.top1,
        "top5": result.top5,
        "count": result.count,
        "ema": result.ema,
        "best_top1": max(progress.best_top1, result.top1),
        "images_per_s": tally.images_per_s,
        "data_wait_fraction": tally.wait_fraction,
        "steps": progress.step,
        "epochs": progress.epoch,
        "wall_s": tally.wall_s,
    }
