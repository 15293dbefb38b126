"""A training step as a choice has it computed: batch transform, loss, backward pass, optimizer.

It is that of `trainer.capacity.trial`, on pixels that are none, without DeepSpeed, whose part is
the same whatever is chosen.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from models.build import TimmModel, compile_in_place, published_with
from models.kernels import switch
from models.memory_layout import keep_layout
from pipeline.augment.batches import BatchTransform
from pipeline.errors import DataError
from trainer import yaml_config
from trainer.assembly.model import model_of
from trainer.capacity.memory import available_bytes, peak_bytes
from trainer.capacity.trial import Trial
from trainer.distillation import build_criterion
from trainer.input_spec import input_spec
from trainer.objective import PlainObjective
from trainer.recipe import Recipe
from trainer.tuning.choice import Choice, choice_of
from trainer.yaml_config import ConfigError

_LR = 1e-9
"""Weights stay what they are: what is timed is one step, again and again."""
_MEASURED = (2, 4)
"""Images of the batches by which the memory of a larger one is known; even, so that they mix."""


def usual_recipe(model: str, *, batch: int, dtype: str, overrides: Sequence[str]) -> Recipe:
    """A recipe to be timed: AdamW, erasing, mixup and cutmix, and what `overrides` say instead.

    Raises:
        ConfigError: if the overrides are no recipe's.
    """
    mixes = {"mixup": 0.8, "cutmix": 1.0} if batch % 2 == 0 else {}
    tree: yaml_config.Tree = {
        "model": {"name": model},
        "optim": {"lr": _LR},
        "schedule": {"epochs": 1},
        "augment": {"erase": 0.25, "smoothing": 0.1, **mixes},
        "precision": {"dtype": dtype},
        "batch": {"global_size": batch, "per_gpu": batch},
    }
    for item in overrides:
        yaml_config.apply_override(tree, item)
    recipe = yaml_config.from_tree(Recipe, tree, where=f"{model}, {batch} images at once")
    if choice_of(recipe) != Choice() or recipe.run.tuned:
        raise ConfigError(
            "run.compile, layout, kernels and tuned are what is tried here; leave them out"
        )
    return recipe


def make_model(recipe: Recipe) -> nn.Module:
    """The model of `recipe`, with as many classes as it was published with.

    Raises:
        ValueError: if there is no such model, or it cannot do what is asked.
    """
    config = recipe.model
    return model_of(recipe, config.num_classes or published_with(config.name)[1])


def make_step(recipe: Recipe, choice: Choice, device: torch.device) -> Callable[[], None]:
    """A step of `recipe` as `choice` has it; whatever is compiled is so at its first call."""
    trial = _trial(recipe, choice, device)

    def step() -> None:
        switch.choose(choice.kernels)
        trial.step(recipe.batch.known_per_gpu)

    return step


def check_room(recipe: Recipe, device: torch.device) -> None:
    """See on a CPU that a step has room: one that has not is killed, and says nothing.

    Raises:
        DataError: naming what it needs, and what there is.
    """
    batch = recipe.batch.known_per_gpu
    small, large = _MEASURED
    if device.type != "cpu" or batch <= large:
        return
    trial = _trial(recipe, Choice(), device)
    trial.step(large)  # what stays, such as the optimizer's averages, comes with the first step
    least, most = (peak_bytes(lambda images=images: trial.step(images)) for images in _MEASURED)
    needed = most + (batch - large) * max(0, most - least) / (large - small)
    room = available_bytes(local_size=1)
    if needed > room:
        raise DataError(
            f"--batch: {batch} images at once need about {needed / 2**30:.1f} GiB, and"
            f" {room / 2**30:.1f} are left; use a smaller batch"
        )


def _trial(recipe: Recipe, choice: Choice, device: torch.device) -> Trial:
    model = make_model(recipe).to(device)
    keep_layout(model, choice.layout)
    spec, num_classes = input_spec(model), cast("TimmModel", model).num_classes
    transform = BatchTransform(
        recipe.augment,
        spec=spec,
        num_classes=num_classes,
        seed=0,
        fused=choice.kernels and device.type == "cuda",
    )
    criterion = build_criterion(recipe, spec=spec, num_classes=num_classes, device=device)
    trial = Trial(recipe, model, PlainObjective(transform, criterion), size=spec.size)
    if choice.compile != "none":
        # A layout is a hook. Unless these are looked at, what was compiled of a model in one layout
        # serves its twins in the others, too, and all are timed alike.
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        compile_in_place(model, blocks=choice.compile == "blocks", mode=choice.compile_mode)
    return trial
