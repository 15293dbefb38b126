"""The published recipe that a run is nearest to, and what its paper reports.

A recipe of ours says its paper's result in its first line, so the package knows it wherever it is
installed. A run is compared with that only if it was evaluated on as many images and classes.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from trainer import yaml_config
from trainer.recipe import Recipe
from trainer.record.run_folder import changed_values

CONFIGS = Path(__file__).parents[3] / "configs"
"""They lie beside the packages, in a checkout and where the wheel is installed."""

_EVALUATED = {
    "ImageNet-1k": (1000, 50_000),
    "CIFAR-10": (10, 10_000),
    "CIFAR-100": (100, 10_000),
    "Flowers-102": (102, 6_149),
    "Food-101": (101, 25_250),
}
"""Classes and evaluation images of the data sets that recipes name."""
_HEAD = re.compile(r"^# .*? on (?P<data>[\w-]+)(?:\.|,).*?Paper: (?:(?P<top1>[\d.]+) %)?")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A recipe that comes with the package.

    Attributes:
        name: such as `configs/dynamixer_s.yaml`.
        data: the data set that it is for; empty where it names none.
        top1: what the paper reports, in percent; None where it reports nothing.
        changes: key, published value and the run's, of all that changes results.
    """

    name: str
    data: str
    top1: float | None
    changes: list[tuple[str, object, object]]

    def is_comparable(self, *, num_classes: int, count: int) -> bool:
        """Whether data with so many classes and evaluation images are the paper's."""
        return _EVALUATED.get(self.data) == (num_classes, count)


def nearest(recipe: Recipe) -> Published | None:
    """The recipe of the same model with the fewest differences; None if there is none."""
    found = [
        _compared(path, published, recipe)
        for path in sorted(CONFIGS.rglob("*.yaml"))
        if (published := _recipe_of(path, recipe.model.name)) is not None
    ]
    return min(found, key=lambda one: len(one.changes), default=None)


def _recipe_of(path: Path, model: str) -> Recipe | None:
    """The recipe in `path` if it is one of `model`; files that others build on are none."""
    if path.parent.name == "base" or not re.search(
        rf"\bname: {re.escape(model)}\b", path.read_text(encoding="utf-8")
    ):
        return None
    recipe = yaml_config.load(Recipe, path)
    return recipe if recipe.model.name == model else None


def _compared(path: Path, published: Recipe, recipe: Recipe) -> Published:
    head = _HEAD.match(path.read_text(encoding="utf-8").partition("\n")[0])
    top1 = head["top1"] if head else None
    return Published(
        name=path.relative_to(CONFIGS.parent).as_posix(),
        data=head["data"] if head else "",
        top1=float(top1) if top1 else None,
        changes=changed_values(published, recipe),
    )
