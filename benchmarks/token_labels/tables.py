"""The figures of docs/token_labels.md, from the raw results of `digits`.

    python -m benchmarks.token_labels.tables

writes them between the marks in the page, `<!-- NAME -->` and `<!-- end -->`. A test holds the page
to the raw results.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.marked_page import filled

RESULTS = Path(__file__).parents[1] / "results" / "token_labels_digits.json"
PAGE = RESULTS.parents[2] / "docs" / "token_labels.md"

Report = dict[str, Any]


def read(path: Path = RESULTS) -> Report:
    """Return the raw results."""
    return json.loads(path.read_text(encoding="utf-8"))


def tables(report: Report) -> dict[str, str]:
    """Return everything that the page takes from the results, by its mark."""
    return {
        "machine": machine_sentence(report["about"]),
        "annotator": annotator_sentence(report),
        "students": students_table(report["students"]),
    }


def page(text: str, report: Report) -> str:
    """Return `text` with everything in its place."""
    return filled(text, tables(report))


def machine_sentence(about: Report) -> str:
    """Return what the runs were made on."""
    return (
        f"One run each, {about['date']}: {about['cores']} cores of {about['cpu']}, Python"
        f" {about['python']}, torch {about['torch']}, DeepSpeed {about['deepspeed']},"
        f" timm {about['timm']}."
    )


def annotator_sentence(report: Report) -> str:
    """Return how often the annotator and its maps are right."""
    maps, annotator = report["maps"], report["annotator"]
    averaged = [each for each in annotator["evaluations"] if each["ema"]][-1]
    rows, columns = maps["grid"]
    places, images = maps["places_right"] / maps["places"], maps["images_right"] / maps["images"]
    return (
        f"The annotator, with the average of its weights that made the maps, is right on"
        f" {averaged['top1']:.1f} % of the validation digits. Of the training digits it is right in"
        f" {100 * places:.0f} % of the {rows} x {columns} places and, by the mean of a map, on"
        f" {100 * images:.1f} %."
    )


def students_table(students: dict[str, list[Report]]) -> str:
    """Return each student's top-1 accuracy after each evaluation."""
    epochs = [each["epoch"] + 1 for each in next(iter(students.values()))]
    lines = [
        f"| top-1 in % after epoch | {' | '.join(map(str, epochs))} |",
        f"|---|{'---:|' * len(epochs)}",
    ]
    for name, evaluations in students.items():
        cells = [f"{each['top1']:.1f}" for each in evaluations]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")
