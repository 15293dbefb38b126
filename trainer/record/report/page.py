"""The page: one file with style, script, Plotly and all pictures inside.

A rule in its head forbids the browser every address but those inside the file.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from trainer.record.report import history, images, recipes, summary
from trainer.record.report.charts import COLOURS, Chart, charts
from trainer.record.report.files import RunFiles
from trainer.record.report.html import Html, element, join, section
from trainer.record.report.published import nearest

_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

_ZOOM = "Drag over steps to see them larger, in all curves at once; click twice to go back."


def page(runs: Sequence[RunFiles]) -> str:
    """The page of a run, or of several side by side."""
    published = [nearest(run.recipe) if run.recipe else None for run in runs]
    drawn = {f"chart-{i}": chart for i, chart in enumerate(charts(runs))}
    curves = section("Curves", _key(runs), _grid(drawn), note=_ZOOM) if drawn else None
    time = summary.time_section(runs)
    if len(runs) == 1:
        (run,) = runs
        title, state = run.name, summary.state_of(run)
        classes, confusion = images.class_section(run)
        if confusion is not None:
            drawn["confusion"] = confusion
        parts = [
            summary.cards(run, published[0]),
            curves,
            time,
            images.batch_section(run),
            classes,
            images.mistake_section(run),
            recipes.recipe_section(run, published[0]),
            history.history_section(run),
            history.machine_section(run),
            summary.next_section(run),
        ]
    else:
        title, state = ", ".join(run.name for run in runs), f"{len(runs)} runs side by side"
        parts = [
            summary.beside(runs, published),
            curves,
            time,
            images.classes_beside(runs),
            recipes.recipes_beside(runs),
        ]
    return _document(title, state, [part for part in parts if part is not None], drawn)


def _key(runs: Sequence[RunFiles]) -> Html | None:
    """Which run has which colour, where there are several."""
    if len(runs) == 1:
        return None
    lines = [
        element("li", element("i", style=f"background: var(--c{number % COLOURS})"), run.name)
        for number, run in enumerate(runs)
    ]
    note = element("p", "Of accuracy and loss, weights are dotted and EMA weights dashed.")
    return join(element("ul", *lines, class_="key"), note)


def _grid(drawn: dict[str, Chart]) -> Html:
    places = [
        element(
            "div",
            element("h3", chart.title),
            element("div", class_="chart", data_chart=name),
            element("p", chart.note, class_="note") if chart.note else None,
        )
        for name, chart in drawn.items()
    ]
    return element("div", *places, class_="charts")


def _document(title: str, state: str, parts: list[Html], drawn: dict[str, Chart]) -> str:
    style, script, plotly = _assets()
    trees = json.dumps({name: chart.as_tree() for name, chart in drawn.items()})
    # JSON inside a script element must not end it.
    safe = Html(trees.replace("<", "\\u003c"))
    head = join(
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        element("title", title),
        element("style", Html(style)),
    )
    is_done = "done" if state == "complete" else ""
    body = join(
        element(
            "header",
            element("h1", title),
            element("p", state, class_=f"state {is_done}".strip()),
            element("nav"),
        ),
        element("main", *parts),
        element("script", safe, type="application/json", id="charts"),
        element("script", Html(plotly)),
        element("script", Html(script)),
    )
    root = element("html", element("head", head), element("body", body), lang="en")
    return f"<!doctype html>\n{root}\n"


@cache
def _assets() -> tuple[str, str, str]:
    """Style, script, and Plotly's."""
    # Imported late: a run that never comes to an evaluation does without.
    from plotly.offline import get_plotlyjs

    here = Path(__file__).parent
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return style, script, get_plotlyjs()
