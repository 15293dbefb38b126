"""Which output of a model is which class of a data set.

Where both have names, the names decide: ImageNet-A and -R hold 200 of ImageNet's classes, and their
folders say which. Their authors then let a model choose among these only, and so do we, aloud.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

_COLUMNS = ("wnid", "index")


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """The classes of a data set as outputs of a model.

    Attributes:
        names: of the data's classes; the position is the label.
        outputs: (len(names),) int64, the output that stands for each.
        chosen_among: (K,) int64, the outputs that compete.
        num_outputs: of the model.
    """

    names: tuple[str, ...]
    outputs: NDArray[np.int64]
    chosen_among: NDArray[np.int64]
    num_outputs: int

    @property
    def is_restricted(self) -> bool:
        """Whether some outputs do not compete."""
        return len(self.chosen_among) < self.num_outputs


def match_classes(
    data: Sequence[str],
    model: Sequence[str],
    *,
    num_outputs: int,
    table: Mapping[str, int] | None = None,
    all_compete: bool = False,
) -> ClassMap:
    """Find the output for each class of the data.

    Args:
        data: names of the data's classes.
        model: names of the outputs; empty if they are not known.
        num_outputs: of the model; may be more than it has names.
        table: outputs by names of the data's classes, from `read_class_map`.
        all_compete: every output, also one that the data has no images of.

    Raises:
        DataError: naming the classes that have no output.
    """
    known = table if table is not None else {name: i for i, name in enumerate(model)}
    if not known and len(data) == num_outputs:
        known = {name: i for i, name in enumerate(data)}
    if not known:
        raise DataError(
            f"the data has {len(data)} classes and the model {num_outputs} outputs, whose names are"
            " not known; say which is which with --class-map FILE, a CSV of wnid,index"
        )
    if strange := [name for name in data if name not in known]:
        where = "in --class-map" if table is not None else "among the model's classes"
        raise DataError(
            f"{len(strange)} of the data's {len(data)} classes are not {where}, such as"
            f" {', '.join(strange[:3])}; name data of the same classes, or say which is which with"
            " --class-map FILE, a CSV of wnid,index"
        )
    outputs = np.array([known[name] for name in data], np.int64)
    if outputs.min() < 0 or outputs.max() >= num_outputs:
        raise DataError(
            f"--class-map: has index {outputs.max()}, and the model has outputs 0 to"
            f" {num_outputs - 1}"
        )
    among = np.arange(num_outputs) if all_compete else np.unique(outputs)
    return ClassMap(names=tuple(data), outputs=outputs, chosen_among=among, num_outputs=num_outputs)


def read_class_map(path: Path) -> dict[str, int]:
    """Read a CSV with the columns wnid and index: a class folder's name, and its output.

    Raises:
        DataError: naming the line that cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise DataError(f"{path}: expected the header {','.join(_COLUMNS)} in its first line")
    table: dict[str, int] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != 2 or not row[1].isdecimal():
            raise DataError(f"{path}:{number}: expected a name and a number, got {','.join(row)}")
        if row[0] in table:
            raise DataError(f"{path}:{number}: {row[0]} is there twice; remove one")
        table[row[0]] = int(row[1])
    return table
