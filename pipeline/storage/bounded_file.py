"""A file that is read at any place by any thread, and that may shrink or fail meanwhile.

Reading what a memory map has lost ends the process without a word, so bytes are copied out. That
takes microseconds for an image, of which decoding takes milliseconds.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError


class BoundedFile:
    """Owns a descriptor, and closes it when nobody has this object any more."""

    def __init__(self, descriptor: int, name: str) -> None:
        """Take `descriptor` over; `name` is for messages."""
        self.descriptor = descriptor
        self._name = name

    @classmethod
    def open(cls, path: Path) -> "BoundedFile":
        """Open the file at `path`.

        Raises:
            DataError: if it cannot be.
        """
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC), str(path))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error

    def __del__(self) -> None:
        os.close(self.descriptor)

    def read(self, start: int, length: int) -> NDArray[np.uint8]:
        """Return `length` bytes from byte `start` on.

        Raises:
            DataError: if there are not so many any more, or the disk fails.
        """
        data = np.empty(length, np.uint8)
        rest, place = data.data, start
        while rest:
            try:
                count = os.preadv(self.descriptor, [rest], place)
            except OSError as error:
                raise DataError(f"{self._name}: cannot be read: {error.strerror}") from error
            if count == 0:
                raise DataError(
                    f"{self._name}: has been cut off at byte {place} or before, while it was in"
                    " use; copy it again, or make it again"
                )
            rest, place = rest[count:], place + count
        return data
