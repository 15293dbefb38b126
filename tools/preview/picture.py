"""A picture of some training images, each with its title above it."""

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from torch import Tensor

from pipeline.storage.files import finish_part, part_path

_COLUMNS = 8


class Preview(NamedTuple):
    """Images (B, 3, H, W) as displayed, from 0 to 1; and what to write above each."""

    images: Tensor
    titles: list[str]


def draw(preview: Preview, output: Path, *, count: int, title: str) -> None:
    """Write the first `count` images as a PNG, each with its title above it."""
    count = min(count, len(preview.images))
    rows = -(-count // _COLUMNS)
    lines = max(title.count("\n") + 1 for title in preview.titles[:count])
    figure, axes = plt.subplots(
        rows,
        _COLUMNS,
        figsize=(1.6 * _COLUMNS, (1.75 + 0.12 * lines) * rows + 0.4),
        squeeze=False,
    )
    figure.suptitle(title)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, words in islice(zip(axes.flat, *preview, strict=False), count):
        axis.imshow(image.permute(1, 2, 0).numpy())
        axis.set_title(words, fontsize=6.5)
    figure.tight_layout()
    part = part_path(output)
    figure.savefig(part, dpi=120, format="png")
    finish_part(part)
    plt.close(figure)
