"""The options of a program that takes a recipe: `--config FILE key.path=value ...`.

A shell's TAB completes the recipes' files, the keys, and the values of keys that have choices.
"""

import argparse
import re
from pathlib import Path

from trainer import recipe_keys


def add_config_option(place: argparse._ActionsContainer, *, required: bool) -> None:
    """Add --config."""
    option = place.add_argument(
        "--config", type=Path, required=required, metavar="FILE", help="recipe, a YAML file"
    )
    # argcomplete looks for the attribute, which argparse does not declare.
    option.completer = complete_config  # pyright: ignore[reportAttributeAccessIssue]


def add_overrides(place: argparse._ActionsContainer) -> None:
    """Add `key.path=value ...`."""
    option = place.add_argument(
        "overrides",
        nargs="*",
        metavar="key.path=value",
        help="instead of what the recipe says (docs/recipe_keys.md)",
    )
    option.completer = complete_override  # pyright: ignore[reportAttributeAccessIssue]


def complete_config(prefix: str, **_: object) -> list[str]:
    """Recipes, and folders of them, whose paths begin with `prefix`."""
    folder = prefix.rpartition("/")[0]
    found = sorted(Path(folder or ".").glob("*")) if not folder or Path(folder).is_dir() else []
    paths = [f"{path}/" if path.is_dir() else str(path) for path in found]
    return [path for path in paths if path.endswith(("/", ".yaml", ".yml"))]


def complete_override(prefix: str, **_: object) -> list[str]:
    """`key=` for keys that begin with `prefix`; `key=value` once it has a key with choices."""
    name, has_key, _value = prefix.partition("=")
    if not has_key:
        return [f"{key.path}=" for key in recipe_keys.recipe_keys() if key.path.startswith(name)]
    types = [key.type for key in recipe_keys.recipe_keys() if key.path == name]
    if not types:
        return []
    choices = ["true", "false"] if types[0] == "bool" else re.findall(r"`(\S+?)`", types[0])
    return [f"{name}={choice}" for choice in choices]
