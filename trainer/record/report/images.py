"""What the model got, and what it made of the validation images."""

from collections.abc import Sequence

from pipeline.words import counted
from trainer.record.report import charts
from trainer.record.report.charts import Chart
from trainer.record.report.files import RunFiles, Tree
from trainer.record.report.html import Cell, Html, element, image, join, section, table

_SMALL = 64
"""Pixels up to which pictures are drawn with their pixels as squares."""
MAX_ROWS = 1000
"""Of the table of classes; more make a page slow."""


def batch_section(run: RunFiles) -> Html | None:
    """A batch as the model got it."""
    batch = run.batch
    if not batch:
        return None
    class_ = "pixels" if batch["size"] <= _SMALL else None
    figures = (
        element(
            "figure",
            image(one["picture"], one["title"], class_=class_),
            element("figcaption", one["title"]),
        )
        for one in batch["images"]
    )
    note = (
        f"The first images that the newest process trained on, in epoch {batch['epoch']} (from 0),"
        f" {batch['size']} px: cropped, augmented, erased, mixed. Below each is its class, or"
        " those of its target with their shares."
    )
    return section("A batch", element("div", *figures, class_="pictures"), note=note)


def class_section(run: RunFiles) -> tuple[Html | None, Chart | None]:
    """The classes, the worst first, what was confused, and the picture of that if it is small."""
    seen = run.evaluation
    if not seen:
        return None, None
    names = _names(seen)
    weights = "EMA weights" if seen["ema"] else "weights"
    images = sum(seen["images"])
    note = f"{counted(images, 'validation image')} after step {seen['step']:,}, {weights}."
    rows = _class_rows(seen, names)
    classes = table(("class", "images", "right", "accuracy, %", "taken for most"), rows, tall=True)
    pairs: list[list[Cell]] = [
        [names[true], names[predicted], count, round(100 * count / seen["images"][true], 1)]
        for true, predicted, count in seen["pairs"]
    ]
    confused = table(("class", "taken for", "images", "of the class, %"), pairs, tall=True)
    every = element("div", element("h3", "Every class, the worst first"), classes)
    most = element("div", element("h3", "Confused most"), confused)
    chart = None
    if seen["matrix"]:
        chart = charts.confusion(names[: len(seen["classes"])], seen["matrix"])
        place = element("div", class_="chart", data_chart="confusion")
        most = element("div", element("div", place), most, class_="columns")
    return section("Classes", every, most, note=note), chart


def mistake_section(run: RunFiles) -> Html | None:
    """The images that the model was most wrong about."""
    seen = run.evaluation
    if not seen or not seen["mistakes"]:
        return None
    names = _names(seen)
    figures = []
    for one in seen["mistakes"]:
        is_, taken = names[one["label"]], names[one["predicted"]]
        words = join(
            element("b", taken),
            f" {_percent(one['confidence'])}\nis {is_} {_percent(one['right'])}",
        )
        picture = one["picture"]
        shown = image(picture, f"{is_}, taken for {taken}") if picture else None
        figures.append(element("figure", shown, element("figcaption", words), title=one["key"]))
    note = (
        "The validation images to whose class the model gave the least probability: what it took"
        " them for, and what they are by their label. A pointer held on one shows its name."
    )
    return section("Worst mistakes", element("div", *figures, class_="pictures"), note=note)


def classes_beside(runs: Sequence[RunFiles]) -> Html | None:
    """The accuracy of each class in several runs, if they have the same classes."""
    seen = [run for run in runs if run.evaluation]
    if len(seen) < 2 or len({tuple(run.evaluation["classes"]) for run in seen}) > 1:
        return None
    names = _names(seen[0].evaluation)
    rows: list[list[Cell]] = []
    for i in range(len(seen[0].evaluation["classes"])):
        values = [_accuracy(run.evaluation, i) for run in seen]
        known = [value for value in values if value is not None]
        spread = round(max(known) - min(known), 2) if known else None
        rows.append([names[i], *values, spread])
    rows.sort(key=lambda row: -(row[-1] if isinstance(row[-1], float) else 0.0))
    header = ("class", *(run.name for run in seen), "spread")
    note = "Accuracy in percent, those that differ most first."
    return section("Classes", table(header, rows[:MAX_ROWS], tall=True), note=note)


def _class_rows(seen: Tree, names: Sequence[str]) -> list[list[Cell]]:
    most: dict[int, tuple[int, int]] = {}
    for true, predicted, count in seen["pairs"]:
        most.setdefault(true, (predicted, count))
    rows: list[list[Cell]] = []
    order = sorted(range(len(seen["classes"])), key=lambda i: _accuracy(seen, i) or 0.0)
    for i in order[:MAX_ROWS]:
        taken = f"{names[most[i][0]]} ({most[i][1]})" if i in most else None
        rows.append([names[i], seen["images"][i], seen["right"][i], _accuracy(seen, i), taken])
    return rows


def _accuracy(seen: Tree, i: int) -> float | None:
    images = seen["images"][i]
    return round(100 * seen["right"][i] / images, 2) if images else None


def _names(seen: Tree) -> list[str]:
    """What people call the outputs; a name that two classes have gets that of the folder."""
    words: list[str] = seen["words"]
    return [
        f"{word} ({seen['classes'][i]})" if words.count(word) > 1 else word
        for i, word in enumerate(words)
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
