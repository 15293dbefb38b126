"""What training alone sees, kept as files of the run: a batch, and the worst of an evaluation.

Pictures are in them, small, so that the page can be made where the data is not.
"""

import base64
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from pipeline.config import InputSpec
from pipeline.errors import DataError
from pipeline.formats.source import Source
from pipeline.loaders.pil_images import PIL_ERRORS, open_image
from pipeline.storage.files import write_atomically
from trainer.record.report.files import BATCH_FILE, EVALUATION_FILE, KEPT_FOLDER
from trainer.record.report.judged import Judged
from trainer.record.report.targets import target_text

MAX_BATCH = 24
"""Images of a batch that are kept."""
MAX_MISTAKES = 24
MAX_PAIRS = 50
"""Pairs of classes; a picture of a thousand by a thousand cannot be read."""
MAX_MATRIX = 40
"""Classes up to which the whole confusion is kept."""
_SIDE = 160
"""Pixels; larger pictures are made smaller."""
_LOSSLESS_SIDE = 64
"""Pictures up to this size are kept as they are."""


class SeenBatch(NamedTuple):
    """The first images of a training batch: (B, 3, H, W), normalised; (B, K) targets; the epoch."""

    images: Tensor
    targets: Tensor
    epoch: int


def keep_batch(run: Path, seen: SeenBatch, spec: InputSpec, words: Sequence[str]) -> None:
    """Write the batch as the model got it.

    Args:
        run: folder of the run.
        seen: the batch.
        spec: mean and standard deviation, which are taken back.
        words: of the outputs; a model may have more than the data has classes.

    Raises:
        OSError: if the disk does not take it.
    """
    std, mean = (torch.tensor(value)[:, None, None] for value in (spec.std, spec.mean))
    pixels = seen.images.detach().float().cpu() * std + mean
    pixels = (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    targets = seen.targets.detach().float().cpu()
    names = [*words, *(f"output {i}" for i in range(len(words), targets.shape[1]))]
    pictures = [
        {"picture": _address(Image.fromarray(image)), "title": target_text(target, names)}
        for image, target in zip(pixels, targets, strict=True)
    ]
    _write(run, BATCH_FILE, {"epoch": seen.epoch, "size": pixels.shape[1], "images": pictures})


def keep_evaluation(
    run: Path,
    judged: Judged,
    source: Source,
    words: Sequence[str],
    *,
    step: int,
    epoch: int,
    ema: bool,
) -> None:
    """Write how each class was classified, what was confused most, and the worst mistakes.

    Args:
        run: folder of the run.
        judged: what the model said.
        source: the validation images; those of the worst mistakes are read.
        words: what people call its classes.
        step: of the evaluation.
        epoch: likewise.
        ema: whether the EMA weights were evaluated.

    Raises:
        OSError: if the disk does not take it.
    """
    count = len(source.classes)
    others = int(judged.predicted.max(initial=-1)) + 1 - count
    matrix = np.zeros((count, count + max(others, 0)), np.int64)
    np.add.at(matrix, (judged.labels, judged.predicted), 1)
    tree = {
        "step": step,
        "epoch": epoch,
        "ema": ema,
        "classes": list(source.classes),
        "words": [*words, *(f"output {i}" for i in range(count, matrix.shape[1]))],
        "images": matrix.sum(1).tolist(),
        "right": matrix.diagonal().tolist(),
        "pairs": _pairs(matrix),
        "matrix": matrix.tolist() if count <= MAX_MATRIX else None,
        "mistakes": _mistakes(judged, source),
    }
    _write(run, EVALUATION_FILE, tree)


def _pairs(matrix: NDArray[np.int64]) -> list[list[int]]:
    """True class, predicted class and number of images of what was confused most."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    true, predicted = np.unravel_index(order, wrong.shape)
    counts = wrong[true, predicted]
    rows = np.stack([true, predicted, counts], axis=1)[counts > 0]
    return rows.tolist()


def _mistakes(judged: Judged, source: Source) -> list[dict[str, object]]:
    """The wrong ones whose right class was the least probable, with their pictures."""
    wrong = np.flatnonzero(judged.predicted != judged.labels)
    worst = wrong[np.argsort(judged.right[wrong], kind="stable")][:MAX_MISTAKES]
    found = []
    for i in worst.tolist():
        sample = int(judged.samples[i])
        found.append(
            {
                "key": source.key(sample),
                "label": int(judged.labels[i]),
                "predicted": int(judged.predicted[i]),
                "confidence": _finite(float(judged.confidence[i])),
                "right": _finite(float(judged.right[i])),
                "picture": _picture(source, sample),
            }
        )
    return found


def _finite(value: float) -> float | None:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else None


def _picture(source: Source, sample: int) -> str | None:
    try:
        (read,) = source.read_many([sample])
        return _address(ImageOps.exif_transpose(open_image(read)))
    except (DataError, *PIL_ERRORS):  # it is in the list of bad images
        return None


def _address(image: Image.Image) -> str:
    """The picture as a `data:` address."""
    image.thumbnail((_SIDE, _SIDE))
    is_small = max(image.size) <= _LOSSLESS_SIDE
    kind = "png" if is_small else "jpeg"
    file = io.BytesIO()
    image.convert("RGB").save(file, kind, **({} if is_small else {"quality": 85}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _write(run: Path, name: str, tree: dict[str, object]) -> None:
    folder = run / KEPT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / name, json.dumps(tree).encode())
