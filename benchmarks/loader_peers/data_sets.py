"""The same photographs in each loader's format.

FFCV re-encodes them into a file of its own; the shards of 400 px take the JPEGs out of that file,
so that both hold the same bytes.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.writer import DatasetWriter
from numpy.typing import NDArray
from PIL import Image

from benchmarks.loader_peers.peer import LONG_SIDE, DataSets
from pipeline.errors import DataError

_QUALITY = 90
_SHARD = "16MB"
"""So that there are several, which worker processes share out."""


def make(images: Path, root: Path, *, at_least: int) -> DataSets:
    """Link every photograph often enough for `at_least` of them, and write all formats.

    Raises:
        DataError: if there are no photographs in class folders.
    """
    sets, paths = DataSets(root), sorted(images.glob("*/*"))
    if not paths:
        raise DataError(f"{images}: expected a folder of class folders with photographs")
    for copy in range(-(-at_least // len(paths))):
        for path in paths:
            linked = sets.folder / "train" / path.parent.name
            linked.mkdir(parents=True, exist_ok=True)
            (linked / f"{copy}_{path.name}").hardlink_to(path)
    _make_shards(sets.folder, sets.shards.parent)
    sets.ffcv_file.parent.mkdir()
    files = _Files(sets.folder / "train")
    field = RGBImageField("jpg", max_resolution=LONG_SIDE, jpeg_quality=_QUALITY)
    writer = DatasetWriter(
        str(sets.ffcv_file),
        {"image": field, "label": IntField()},
        num_workers=len(os.sched_getaffinity(0)),
    )
    writer.from_indexed_dataset(files)
    _make_shards(sets.ffcv_file.parent, sets.small_shards.parent)
    return sets


class _Files:
    """Class folders as FFCV's writer wants them: it hangs on gray images."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*/*"))
        names = sorted({path.parent.name for path in self._paths})
        self._labels = {name: label for label, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        path = self._paths[int(index)]
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")), self._labels[path.parent.name]


def _make_shards(source: Path, output: Path) -> None:
    tool = [sys.executable, "-m", "tools.make_shards", str(source), "--split", "train"]
    root = Path(__file__).parents[2]
    subprocess.run(
        [*tool, "--shard-size", _SHARD, "--output", str(output)],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=root,
    )
