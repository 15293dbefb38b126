"""The curves of runs, as the trees of lists and numbers that Plotly draws.

Plotly's Python part is not imported: the page's script takes these trees, and gives them the
colours of the page.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from trainer.record.report.files import RunFiles, Tree

MAX_POINTS = 1500
"""Of a curve; a screen shows no more."""
_PARTS = 50
"""A smoothed value is the mean over about this part of the run."""
_GIB = 1 << 30

COLOURS = 8
"""Of lines, by the names that the page's style has for them."""
Points = tuple[list[int], list[float]]
"""Steps and values."""
_DRAWN = (
    *("step", "epoch", "loss", "lr", "grad_norm", "images_per_s", "images_per_s_per_gpu"),
    *("data_wait_s", "data_wait_rank"),
)
"""Fields of `step` events that have a chart below, or are no curve of their own."""
_TRAINING, _WEIGHTS, _EMA = range(3)
"""Kinds of lines."""
_KINDS = ((False, _WEIGHTS, "weights"), (True, _EMA, "EMA weights"))
_DASHES = ("solid", "dot", "dash")
_NAMES = {"mfu": "share of the machine's arithmetic (MFU)"}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A title, a sentence, and what Plotly draws."""

    title: str
    note: str
    data: list[Tree]
    layout: Tree

    def as_tree(self) -> Tree:
        """As the page's script takes it."""
        return {"data": self.data, "layout": self.layout}


def charts(runs: Sequence[RunFiles]) -> list[Chart]:
    """All that there is something to draw in."""
    made = [
        _accuracy(runs),
        _loss(runs),
        _curve(runs, "Learning rate", lambda run: _field(run, "lr")),
        _curve(
            runs,
            "Gradient norm",
            lambda run: _field(run, "grad_norm"),
            smooth=True,
            note="Before clipping; smoothed, with what was logged pale beneath.",
        ),
        _curve(
            runs,
            "Images a second",
            lambda run: _field(run, "images_per_s"),
            smooth=True,
            from_zero=True,
            note="Training over all ranks; evaluating and saving do not count.",
        ),
        _curve(
            runs,
            "Waiting for data, %",
            _waiting,
            from_zero=True,
            note="Share of the training time in which the slowest rank had no images.",
        ),
        *_others(runs),
    ]
    return [chart for chart in made if any(trace["x"] for trace in chart.data)]


def confusion(classes: Sequence[str], matrix: list[list[int]]) -> Chart:
    """What was taken for what, in percent of the images of the true class."""
    shares = [[100 * n / max(sum(row), 1) for n in row[: len(classes)]] for row in matrix]
    trace = {
        "type": "heatmap",
        "x": list(classes),
        "y": list(classes),
        "z": shares,
        "customdata": matrix,
        "zmin": 0,
        "zmax": 100,
        "themed": "scale",
        "colorbar": {"thickness": 10, "ticksuffix": " %", "outlinewidth": 0},
        "hovertemplate": "%{y} taken for %{x}: %{z:.1f} % (%{customdata})<extra></extra>",
    }
    axis = {"type": "category", "automargin": True, "showgrid": False}
    layout = {
        "xaxis": {**axis, "title": {"text": "predicted"}},
        "yaxis": {**axis, "title": {"text": "true"}, "autorange": "reversed"},
        "height": max(360, 16 * len(classes) + 160),
    }
    return Chart(title="Confusion", note="", data=[trace], layout=layout)


def smoothed(values: Sequence[float]) -> list[float]:
    """Means over a window around each value, which is cut at the ends."""
    half = len(values) // (2 * _PARTS)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    bounds = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in bounds]


def thinned(points: Points) -> Points:
    """Means of neighbours, where there are more points than can be seen."""
    x, y = points
    size = -(-len(x) // MAX_POINTS) or 1
    starts = range(0, len(x), size)
    if size == 1:
        return points
    return [x[min(i + size, len(x)) - 1] for i in starts], [fmean(y[i : i + size]) for i in starts]


def _accuracy(runs: Sequence[RunFiles]) -> Chart:
    data = []
    for number, run in enumerate(runs):
        for is_ema, kind, weights in _KINDS:
            events = run.evaluations(ema=is_ema)
            values = [event["top1"] for event in events]
            points = _steps(events), values
            trace = _trace(_label(runs, run, weights), points, _look(runs, number, kind))
            bars = [
                (v * (100 - v) / e["count"]) ** 0.5 for v, e in zip(values, events, strict=True)
            ]
            trace |= {
                "mode": "lines+markers",
                "error_y": {"type": "data", "array": bars, "thickness": 1.2, "width": 3},
                "hovertemplate": "%{y:.2f} % ± %{error_y.array:.2f}",
            }
            data += [trace] if events else []
    note = "Of the validation images; a bar is the standard deviation, were other images drawn."
    return _chart("Top-1, %", data, note=note, legend=len(runs) == 1)


def _loss(runs: Sequence[RunFiles]) -> Chart:
    data: list[Tree] = []
    for number, run in enumerate(runs):
        look = _look(runs, number, _TRAINING)
        data += _smooth(_label(runs, run, "training"), _field(run, "loss"), look)
        for is_ema, kind, weights in _KINDS:
            events = [e for e in run.evaluations(ema=is_ema) if e.get("loss") is not None]
            points = _steps(events), [event["loss"] for event in events]
            label = _label(runs, run, f"validation, {weights}")
            trace = _trace(label, points, _look(runs, number, kind))
            data += [{**trace, "mode": "lines+markers"}] if events else []
    note = (
        "Training: smoothed, with what was logged pale beneath; on augmented images, with label"
        " smoothing and mixing where the recipe has them, so it is not below validation's."
    )
    return _chart("Loss", data, note=note, legend=len(runs) == 1)


def _curve(
    runs: Sequence[RunFiles],
    title: str,
    points: Callable[[RunFiles], Points],
    *,
    smooth: bool = False,
    from_zero: bool = False,
    note: str = "",
) -> Chart:
    data = []
    for number, run in enumerate(runs):
        name = run.name if len(runs) > 1 else title
        look = _look(runs, number, _TRAINING)
        if smooth:
            data += _smooth(name, points(run), look)
        else:
            data.append(_trace(name, thinned(points(run)), look))
    return _chart(title, data, from_zero=from_zero, note=note)


def _others(runs: Sequence[RunFiles]) -> Iterator[Chart]:
    """Whatever else the steps say in numbers, such as memory."""
    names = {
        key
        for run in runs
        for event in run.of_kind("step")[-1:]
        for key, value in event.items()
        if key not in _DRAWN and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    for name in sorted(names):
        is_bytes = name.endswith("_bytes")
        words = _NAMES.get(name, name.removesuffix("_bytes").replace("_", " "))
        scale = _GIB if is_bytes else 1

        def points(run: RunFiles, name: str = name, scale: int = scale) -> Points:
            x, y = _field(run, name)
            return x, [value / scale for value in y]

        title = words[0].upper() + words[1:] + (", GiB" if is_bytes else "")
        yield _curve(runs, title, points, from_zero=True)


def _waiting(run: RunFiles) -> Points:
    """Percent of each stretch between two `step` events; empty where the batch is not known."""
    batch, before = run.start.get("batch"), 0
    x, y = [], []
    for event in run.of_kind("step"):
        steps, before = event["step"] - before, event["step"]
        if batch and event["images_per_s"] and steps > 0:
            seconds = steps * batch / event["images_per_s"]
            x.append(event["step"])
            y.append(min(100.0, 100 * event["data_wait_s"] / seconds))
    return x, y


def _field(run: RunFiles, name: str) -> Points:
    events = [event for event in run.of_kind("step") if event.get(name) is not None]
    return _steps(events), [event[name] for event in events]


def _steps(events: Sequence[Tree]) -> list[int]:
    return [event["step"] for event in events]


def _smooth(name: str, points: Points, look: Tree) -> list[Tree]:
    x, y = points
    pale = _trace(name, thinned(points), look) | {
        "opacity": 0.3,
        "hoverinfo": "skip",
        "showlegend": False,
        "line": {"width": 1},
    }
    return [pale, _trace(name, thinned((x, smoothed(y))), look)]


def _trace(name: str, points: Points, look: Tree) -> Tree:
    """A line; `look` is what the page's script makes a colour of, and its dashes."""
    x, y = points
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "legendgroup": name,
        "x": x,
        "y": y,
        "themed": look["colour"],
        "line": {"width": 2, "dash": look["dash"]},
        "marker": {"size": 6},
        "hovertemplate": "%{y:.5~g}",
    }


def _look(runs: Sequence[RunFiles], number: int, kind: int) -> Tree:
    """One run has a colour for each kind of line, several have one each and kinds of dashes."""
    if len(runs) == 1:
        return {"colour": kind, "dash": "solid"}
    return {"colour": number, "dash": _DASHES[kind]}


def _chart(
    title: str, data: list[Tree], *, from_zero: bool = False, note: str = "", legend: bool = False
) -> Chart:
    """Several runs have one legend for all charts, on the page."""
    layout = {
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {"rangemode": "tozero" if from_zero else "normal"},
        "showlegend": legend,
        "hovermode": "x unified",
    }
    return Chart(title=title, note=note, data=data, layout=layout)


def _label(runs: Sequence[RunFiles], run: RunFiles, what: str) -> str:
    return f"{run.name}, {what}" if len(runs) > 1 else what
