"""Images read straight from class folders, one file each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, Problem
from pipeline.formats.class_folders import scan_class_folders
from pipeline.formats.source import Sample
from pipeline.images.header import read_header

_MESSAGE_LINES = 10


class FolderSource:
    """A folder of class folders as a `Source`. Sizes in pixels come from the image headers."""

    def __init__(self, root: Path) -> None:
        """List the images below `root`.

        Raises:
            DataError: naming the files and folders that cannot be used, or an empty class.
        """
        self._scan = scan_class_folders(root)
        if self._scan.problems:
            raise DataError(f"{root} cannot be used as it is:\n{_listed(self._scan.problems)}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the class folders, sorted."""
        return self._scan.classes

    @property
    def labels(self) -> NDArray[np.integer]:
        """Class index of each sample."""
        return self._scan.labels

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """The folder counts as one shard."""
        return (len(self._scan),)

    @property
    def storage_order(self) -> NDArray[np.int64]:
        """Files have no order of their own."""
        return np.arange(len(self._scan))

    def __len__(self) -> int:
        return len(self._scan)

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Sample]:
        """Read the files of the samples at `indices`."""
        return [self._read(int(i)) for i in indices]

    def key(self, index: int) -> str:
        """As the index or the folder has it."""
        return self._scan.keys[index].as_py()

    def describe(self, index: int) -> str:
        """Path of the file."""
        return self._scan.reader.describe(self._scan.location(index))

    def _read(self, index: int) -> Sample:
        try:
            data = self._scan.reader.read(self._scan.location(index))
            header = read_header(data)
        except OSError as error:
            raise DataError(f"{self.describe(index)}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise DataError(f"{self.describe(index)}: not an image: {error}") from error
        return Sample(
            key=self._scan.keys[index].as_py(),
            data=np.frombuffer(data, np.uint8),
            label=int(self._scan.labels[index]),
            width=header.width,
            height=header.height,
        )


def _listed(problems: Sequence[Problem]) -> str:
    lines = [f"  {problem}" for problem in problems[:_MESSAGE_LINES]]
    if len(problems) > _MESSAGE_LINES:
        lines.append(f"  and {len(problems) - _MESSAGE_LINES} more")
    return "\n".join(lines)
