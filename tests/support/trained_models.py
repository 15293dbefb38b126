"""A small model of the image folder's classes, as a run leaves it behind: not trained, but real."""

from dataclasses import replace
from pathlib import Path

import timm
import torch

import models
from models.build import input_config
from models.weights.description import ModelDescription
from tests.support.pictures import CLASSES
from tests.support.recipes import recipe
from tests.support.small_models import randomise
from trainer import yaml_config
from trainer.engine.state import TrainingState
from trainer.events import Evaluated
from trainer.record import checkpoint
from trainer.record.meta import Meta, RunProgress, Tally

NAME = "dynamixer_nano"
assert NAME in models.names()


def small_model(seed=0, classes=CLASSES):
    """Random weights whose logits differ from image to image."""
    model = timm.create_model(NAME, num_classes=len(classes))
    return randomise(model, seed=seed).eval()


def describe(model, classes=CLASSES):
    """What a run would say of it."""
    return ModelDescription(
        name=NAME, arguments={}, classes=tuple(classes), input=input_config(model)
    )


def write_run(root: Path, data: Path, *, steps=(1, 2), described=True) -> Path:
    """A run's folder with a checkpoint at each of `steps`; the average is of another seed.

    The first of them was evaluated best.
    """
    folder = root / "runs" / "small"
    (folder / "checkpoints").mkdir(parents=True)
    made = recipe()
    made = replace(made, data=replace(made.data, root=str(data)))
    (folder / "recipe.yaml").write_text(yaml_config.dump(made))
    for step in steps:
        model = small_model(seed=step)
        result = Evaluated(
            step=step, epoch=step - 1, top1=90.0 - step, top5=100.0, count=22, ema=True
        )
        meta = Meta(
            progress=RunProgress(epoch=step, step=step),
            results_fingerprint=made.results_fingerprint(),
            data_fingerprint="data",
            tally=Tally(),
            evaluated=result,
            model=describe(model) if described else None,
        )
        state = TrainingState(
            model=model.state_dict(), ema=small_model(seed=100 + step).state_dict()
        )
        checkpoint.write(folder / "checkpoints", state, meta, keep=len(steps))
    return folder


def same(model, other) -> bool:
    """Whether two models have the same weights."""
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
