"""Mistakes in a recipe that are found before torch, whose import takes seconds, is imported.

Only what is certain is refused here; the rest is found when the parts are made.
"""

import difflib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.formats.open import check_split
from trainer.recipe import Recipe

_ENTRY_POINT = re.compile(r"^@register_model\s*\ndef (\w+)", re.MULTILINE)
_OURS = Path(__file__).parents[2] / "models"


def check_names(recipe: Recipe) -> None:
    """See that the recipe's model, data and libraries can exist.

    Raises:
        ValueError: if the model's name is nowhere in the sources of models, or a library is not
            there that the recipe needs.
        DataError: if there is no data.
    """
    _check_model(recipe.model.name)
    check_extras(recipe.run.sinks)
    for split in ("train", "val"):
        check_split(recipe.data, split)


def check_extras(sinks: Sequence[str]) -> None:
    """See that the libraries of sinks are there, without importing them.

    Args:
        sinks: `run.sinks`; each has the name of its library and of our extra.

    Raises:
        ValueError: if one is not installed.
    """
    for name in sinks:
        if importlib.util.find_spec(name) is None:
            raise ValueError(
                f"run.sinks: {name} is not installed: pip install 'millstream[{name}]', or leave it"
                " out"
            )


def _check_model(name: str) -> None:
    """Look for `name` in the sources that register models, ours and timm's."""
    variant = name.partition(".")[0]  # timm's names may have a tag of weights
    timm = importlib.util.find_spec("timm")  # finds it without importing it
    assert timm is not None, "timm is a dependency"
    assert timm.origin is not None, "timm is a package of files"
    known: list[str] = []
    for folder in (_OURS, Path(timm.origin).parent / "models"):
        for path in folder.glob("*.py"):
            source = path.read_text(encoding="utf-8")
            # Also names that a table or a deprecation registers.
            if re.search(rf"\b{re.escape(variant)}\b", source):
                return
            known += _ENTRY_POINT.findall(source)
    near = difflib.get_close_matches(variant, known, 3)
    hint = "docs/model_zoo.md lists all"
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    raise ValueError(f"model.name: unknown variant {name!r}; {hint}")
