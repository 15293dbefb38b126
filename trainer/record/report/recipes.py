"""What runs were made with, beside what was published, and beside each other."""

import dataclasses
from collections.abc import Sequence

from trainer.recipe import Recipe
from trainer.record.report.files import RunFiles, Tree
from trainer.record.report.html import Cell, Html, element, join, section, table
from trainer.record.report.published import Published
from trainer.yaml_config import one_line


def recipe_section(run: RunFiles, published: Published | None) -> Html:
    """The differences from the nearest published recipe, and all values."""
    text = element(
        "details", element("summary", "All values of the run"), element("pre", run.recipe_text)
    )
    if run.recipe is None:
        note = "recipe.yaml was written by another version, and cannot be compared."
        return section("Recipe", text, note=note)
    if published is None:
        note = f"No recipe that comes with the package is for {run.recipe.model.name}."
        return section("Recipe", text, note=note)
    if not published.changes:
        note = f"All that changes results is as in {published.name}."
        return section("Recipe", text, note=note)
    rows = [[key, _said(before), _said(after)] for key, before, after in published.changes]
    note = f"What changes results and is not as in {published.name}, the nearest that is published."
    return section("Recipe", table(("key", "published", "this run"), rows), text, note=note)


def recipes_beside(runs: Sequence[RunFiles]) -> Html:
    """The values that are not the same in all runs."""
    known = [(run, _flat(run.recipe)) for run in runs if run.recipe is not None]
    keys = list(dict.fromkeys(key for _, values in known for key in values))
    rows: list[list[Cell]] = []
    for key in keys:
        said = [_said(values.get(key)) for _, values in known]
        if len(set(said)) > 1 and key not in ("run.name", "run.root"):
            rows.append([key, *said])
    texts = (
        element("details", element("summary", f"All values of {run.name}"), element("pre", text))
        for run, text in ((run, run.recipe_text) for run in runs)
    )
    if not rows:
        return section("Recipes", join(*texts), note="All values are the same.")
    header = ("key", *(run.name for run, _ in known))
    note = "The values that are not the same in all of them."
    return section("Recipes", table(header, rows), *texts, note=note)


def _flat(recipe: Recipe) -> Tree:
    """`section.key` and its value."""
    sections = {item.name: getattr(recipe, item.name) for item in dataclasses.fields(recipe)}
    return {
        f"{name}.{item.name}": getattr(section, item.name)
        for name, section in sections.items()
        for item in dataclasses.fields(section)
    }


def _said(value: object) -> str:
    return "-" if value is None else one_line(value)
