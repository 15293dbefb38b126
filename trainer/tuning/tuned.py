"""A recipe that says `run.tuned`, with what was found in the place of the defaults.

What is chosen changes sums in their rounding. So a run keeps what it began with: the choice is
written into its recipe, and looked up there when the run goes on, whatever the cache says then.
"""

import json
import os
import shlex
from dataclasses import replace

import torch

from trainer.recipe import Recipe
from trainer.tuning import cache
from trainer.tuning.choice import Choice, choice_of, with_choice


def with_tuned(
    recipe: Recipe,
    device: torch.device,
    begun_with: Recipe | None,
    *,
    accumulates: bool = False,
) -> tuple[Recipe, str]:
    """Return `recipe` with a choice made, and how in words; as it is where nothing is to choose.

    Args:
        recipe: `batch.per_gpu` is a number.
        device: of the model.
        begun_with: the recipe of the run that goes on; None of a new one.
        accumulates: whether a step adds up the gradients of several batches, which CUDA graphs
            would overwrite: a mode that records them is left out then.
    """
    if not recipe.run.tuned:
        return recipe, ""
    choice, found = _found(recipe, device, begun_with)
    if choice is None:
        return with_choice(recipe, choice_of(recipe)), f"run.tuned: {found}"
    if accumulates and device.type == "cuda" and choice.compile_mode != "default":
        choice = replace(choice, compile_mode="default")
        found = f"but for CUDA graphs, in which gradients do not add up, {found}"
    return with_choice(recipe, choice), f"run.tuned: {choice}, {found}"


def _found(
    recipe: Recipe, device: torch.device, begun_with: Recipe | None
) -> tuple[Choice | None, str]:
    """What to choose, if anything is known, and how, or how to know it."""
    if begun_with is not None:
        return choice_of(begun_with), "as the run began"
    case = cache.case_of(recipe, device)
    if (choice := cache.read(case)) is not None:
        return choice, f"says {case.path}"
    text = f"nothing is known of this model and batch on {case.device}: the defaults"
    return None, f"{text}. To find out: {command(recipe, device)}"


def command(recipe: Recipe, device: torch.device) -> str:
    """What measures the case of `recipe` on `device`."""
    model, precision = recipe.model, recipe.precision
    words = []
    cores, threads = sorted(os.sched_getaffinity(0)), torch.get_num_threads()
    if device.type == "cpu" and threads < len(cores):  # it takes all that it is given
        words += ["taskset", "--cpu-list", ",".join(map(str, cores[:threads]))]
    words += [
        "python",
        "tools/tune.py",
        "--model",
        model.name,
        "--batch",
        str(recipe.batch.per_gpu),
    ]
    words.append(f"precision.dtype={precision.dtype}")
    if precision.dtype == "fp16":  # which does not go with zero.stage 0, the default
        words.append(f"zero.stage={recipe.zero.stage}")
    for key, value, default in (
        ("precision.allow_tf32", precision.allow_tf32, False),
        ("model.img_size", model.img_size, None),
        ("model.grad_checkpointing", model.grad_checkpointing, False),
        ("model.args", model.args, {}),
    ):
        if value != default:
            words.append(f"{key}={json.dumps(value)}")
    return shlex.join(words)
