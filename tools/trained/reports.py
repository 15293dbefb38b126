"""Files made of predictions: tables and pictures."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pyarrow as pa
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from pyarrow import parquet

from tools.cli.output_files import write_file
from tools.trained.classes import ClassMap
from tools.trained.predict_split import Predictions
from tools.trained.scores import BINS, calibration, confusion

_MAX_NAMED_CLASSES = 40
"""More names beside a picture of the confusion cannot be read."""


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV."""

    def write(draft: Path) -> None:
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)

    write_file(path, write)


def write_per_class(path: Path, predictions: Predictions, classes: ClassMap) -> None:
    """A line a class: images, right ones, recall (accuracy), predicted as such, precision."""
    matrix = confusion(predictions, classes)
    right = matrix.diagonal()
    images, predicted = matrix.sum(1), matrix[:, :-1].sum(0)
    accuracy, precision = map(_percents, (right, right), (images, predicted))
    rows = zip(classes.names, images, right, accuracy, predicted, precision, strict=True)
    header = ("class", "images", "right", "accuracy", "predicted", "precision")
    write_table(path, header, rows)


def write_confusion(path: Path, predictions: Predictions, classes: ClassMap) -> Path:
    """Rows are the true classes. Returns the picture that is written beside the CSV."""
    matrix = confusion(predictions, classes)
    has_others = bool(matrix[:, -1].any())
    matrix = matrix if has_others else matrix[:, :-1]
    columns = [*classes.names, *(["(another class)"] if has_others else [])]
    rows = ((name, *row) for name, row in zip(classes.names, matrix.tolist(), strict=True))
    write_table(path, ("class", *columns), rows)
    picture = path.with_suffix(".png")
    _draw_confusion(picture, matrix, classes.names, columns)
    return picture


def write_calibration(path: Path, predictions: Predictions) -> None:
    """The reliability picture: accuracy over confidence, and how many images there are of each."""
    confidence, accuracy, share = calibration(predictions)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(5, 6), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    middle = (np.arange(BINS) + 0.5) / BINS
    shown = share > 0
    above.plot([0, 1], [0, 1], color="gray", linestyle="--", label="calibrated")
    above.plot(confidence[shown], accuracy[shown], marker="o", label="this model")
    error = 100 * (share * np.abs(accuracy - confidence)).sum()
    above.set(ylabel="accuracy", title=f"expected calibration error {error:.2f} %", ylim=(0, 1))
    above.legend(loc="upper left")
    below.bar(middle, share, width=0.9 / BINS)
    below.set(xlabel="confidence", ylabel="share of images", xlim=(0, 1))
    write_file(path, lambda draft: figure.savefig(draft, dpi=110))
    plt.close(figure)


def write_predictions(path: Path, predictions: Predictions, names: Sequence[str]) -> None:
    """A line an image: key, label, loss, and the most probable classes with their probabilities.

    Args:
        path: a .csv, or a .parquet.
        predictions: of the images.
        names: of the model's outputs.
    """
    columns: dict[str, list[object]] = {
        "key": list(predictions.keys),
        "label": [names[i] for i in predictions.labels],
        "loss": predictions.losses.tolist(),
    }
    for place in range(predictions.top.shape[1]):
        columns[f"class_{place + 1}"] = [names[i] for i in predictions.top[:, place]]
        columns[f"probability_{place + 1}"] = predictions.probabilities[:, place].tolist()
    if path.suffix == ".parquet":
        write_file(path, lambda draft: parquet.write_table(pa.table(columns), draft))
    else:
        write_table(path, list(columns), zip(*columns.values(), strict=True))


def _percents(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> list[str]:
    """Empty where there is nothing that it could be a share of."""
    pairs = zip(parts.tolist(), wholes.tolist(), strict=True)
    return [f"{100 * part / whole:.3f}" if whole else "" for part, whole in pairs]


def _draw_confusion(
    path: Path, matrix: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str]
) -> None:
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    named = len(rows) <= _MAX_NAMED_CLASSES
    side = max(4.0, 0.3 * len(rows) + 2) if named else 9.0
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    shown = axis.imshow(shares, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    figure.colorbar(shown, label="share of the images of the true class", shrink=0.8)
    axis.set(xlabel="predicted", ylabel="true")
    if named:
        axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
        axis.set_yticks(range(len(rows)), rows, fontsize=7)
    write_file(path, lambda draft: figure.savefig(draft, dpi=110))
    plt.close(figure)
