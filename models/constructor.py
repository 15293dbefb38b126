"""What a model's constructor takes beyond what every recipe names: ablations, modes, rates."""

import difflib
import inspect
from collections.abc import Mapping

import timm
import torch

Argument = bool | int | float | str | list[int] | list[float] | list[str]

OWN_KEYS = ("num_classes", "img_size", "drop_path_rate")
"""These have keys of their own in the section `model` of a recipe."""


def check_arguments(name: str, given: Mapping[str, Argument]) -> None:
    """Refuse what the constructor of model `name` does not take, or a word where a number belongs.

    Raises:
        ValueError: naming the argument, and the nearest one or all that there are.
    """
    known = _parameters(name) if given else {}
    for key, value in given.items():
        if key in OWN_KEYS:
            raise ValueError(f"model.args: {key} has a key of its own; write model.{key}")
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"model.args: {name} takes no {key!r}; {hint}")
        default = known[key].default
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        if is_number and isinstance(value, bool | str):
            raise ValueError(
                f"model.args.{key}: expected a number such as {default!r}, got {value!r}"
            )


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    """Of the model's constructor, all that a recipe may set."""
    # An entry point does not tell its class without building it.
    with torch.random.fork_rng(devices=[]):
        found = inspect.signature(type(timm.create_model(name))).parameters
    set_elsewhere = {"in_chans", "pretrained_cfg", "device", "dtype", *OWN_KEYS}
    return {
        key: parameter
        for key, parameter in found.items()
        if parameter.kind is not parameter.VAR_KEYWORD and key not in set_elsewhere
    }
