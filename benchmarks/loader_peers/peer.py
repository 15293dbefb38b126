"""What all peers have in common: the images to make, and what they make them of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SIZE = 224
BATCH = 64
RESIZED = 256
"""Evaluation resizes the short side to this, then crops the centre; bilinear, as training."""
CROP_PCT = SIZE / RESIZED
POLICY = "rand-m9-mstd0.5-inc1"
ERASE = 0.25
"""Probability of random erasing, wherever RandAugment is on."""
MEAN = STD = (0.5, 0.5, 0.5)
LONG_SIDE = 400

Epoch = Callable[[int], Iterator[int]]
"""Goes through an epoch, yielding the number of images of each batch."""


class UnavailableError(Exception):
    """A peer cannot be measured here; says why."""


@dataclass(frozen=True)
class DataSets:
    """The same photographs in all formats, below one folder."""

    root: Path

    @property
    def folder(self) -> Path:
        """The photographs in class folders, below `train`."""
        return self.root / "folder"

    @property
    def shards(self) -> Path:
        """The same files in shards."""
        return self.root / "shards" / "train"

    @property
    def ffcv_file(self) -> Path:
        """Re-encoded by FFCV: at most `LONG_SIDE` pixels, JPEG quality 90."""
        return self.root / "ffcv" / "train.beton"

    @property
    def small_shards(self) -> Path:
        """The JPEGs of `ffcv_file`, byte by byte, in shards."""
        return self.root / "shards_400" / "train"


Peer = Callable[[DataSets, int], Epoch]
"""Builds a loader that uses so many threads or worker processes.

Raises `UnavailableError` where it cannot.
"""
