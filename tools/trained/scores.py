"""Figures made of predictions: accuracy, by class, confusion, calibration, ImageNet ReaL."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from tools.trained.classes import ClassMap
from tools.trained.predict_split import Predictions

BINS = 15
"""Of the calibration error (Guo et al. 2017)."""
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of all images; shares in percent, counts exact."""

    count: int
    top1_count: int
    top5_count: int
    loss: float | None = None
    """Mean cross-entropy."""
    ece: float | None = None
    """Expected calibration error, in percent."""

    @property
    def top1(self) -> float:
        """Share of images whose class is the most probable one."""
        return 100 * self.top1_count / max(self.count, 1)

    @property
    def top5(self) -> float:
        """Share of images whose class is among the five most probable ones."""
        return 100 * self.top5_count / max(self.count, 1)

    @property
    def top1_deviation(self) -> float:
        """Standard deviation of `top1`, in percentage points, if the images are a sample."""
        share = self.top1 / 100
        return 100 * (share * (1 - share) / max(self.count, 1)) ** 0.5


def score(predictions: Predictions) -> Scores:
    """Accuracy, loss and calibration."""
    hits = predictions.top == predictions.labels[:, None]
    confidence, accuracy, share = calibration(predictions)
    return Scores(
        count=len(hits),
        top1_count=int(hits[:, 0].sum()),
        top5_count=int(hits.sum()),
        loss=float(predictions.losses.mean(dtype=np.float64)),
        ece=100 * float((share * np.abs(accuracy - confidence)).sum()),
    )


def calibration(
    predictions: Predictions,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean confidence, accuracy and share of the images of each of `BINS` bins of confidence."""
    confidence = predictions.probabilities[:, 0].astype(np.float64)
    is_right = predictions.top[:, 0] == predictions.labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    divisor = np.maximum(counts, 1)
    return (
        np.bincount(bins, confidence, BINS) / divisor,
        np.bincount(bins, is_right, BINS) / divisor,
        counts / max(len(bins), 1),
    )


def confusion(predictions: Predictions, classes: ClassMap) -> NDArray[np.int64]:
    """(C, C + 1): how often an image of each class was taken for each; the last: for none of them.

    Rows and columns are the classes of the data.
    """
    column = np.full(classes.num_outputs, len(classes.names))
    column[classes.outputs] = np.arange(len(classes.names))
    matrix = np.zeros((len(classes.names), len(classes.names) + 1), np.int64)
    np.add.at(matrix, (column[predictions.labels], column[predictions.top[:, 0]]), 1)
    return matrix


def score_real(predictions: Predictions, labels: list[list[int]]) -> Scores:
    """Accuracy by ImageNet ReaL (Beyer et al. 2020): any of an image's labels is right.

    Images without a label do not count.

    Raises:
        DataError: if a sample is none of ImageNet's validation images.
    """
    count = top1 = top5 = 0
    for key, best in zip(predictions.keys, predictions.top, strict=True):
        found = _VALIDATION_NAME.search(key)
        number = int(found[1]) if found else 0
        if not 1 <= number <= len(labels):
            raise DataError(
                f"--real-labels: has labels for ILSVRC2012_val_00000001 to {len(labels):08d}, and"
                f" none for {key}"
            )
        if right := labels[number - 1]:
            hits = np.isin(best, right)
            count, top1, top5 = count + 1, top1 + int(hits[0]), top5 + int(hits.any())
    return Scores(count=count, top1_count=top1, top5_count=top5)


def read_real_labels(path: Path) -> list[list[int]]:
    """Read ReaL's `real.json`: a list of labels for each validation image, in order.

    Raises:
        DataError: if it is not such a file.
    """
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(labels, list) or not all(isinstance(row, list) for row in labels):
        raise DataError(f"{path}: expected a list of labels for each validation image")
    return labels
