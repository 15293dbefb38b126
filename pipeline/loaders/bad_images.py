"""What is done about images that cannot be read or decoded: said, counted, and once too many."""

import logging
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.batch import BadSample
from pipeline.config import DataConfig
from pipeline.errors import DataError
from pipeline.formats.source import Source
from pipeline.words import counted

_log = logging.getLogger(__name__)

Report = Callable[[BadSample], None]
"""Is told of each image that a gray one replaces, each time."""


class BadImages:
    """Those that one rank has met in a source."""

    def __init__(self, source: Source, data: DataConfig, report: Report | None) -> None:
        self._source = source
        self._data = data
        self._report = report
        self._samples: set[int] = set()

    def refuse(self, samples: NDArray[np.int64], reasons: Mapping[int, str]) -> None:
        """Refuse images, unless bad ones are to be replaced.

        Args:
            samples: of a batch.
            reasons: what is wrong, by position in it.

        Raises:
            DataError: naming all of them.
        """
        if reasons and self._data.on_error == "raise":
            lines = (f"{self._named(int(samples[at]))}: {why}" for at, why in reasons.items())
            raise DataError(
                "; ".join(lines) + ". Repair or remove what is named, or set data.on_error to"
                " 'replace', which puts gray images in such places"
            )

    def note(self, samples: NDArray[np.int64], reasons: Mapping[int, str], *, epoch: int) -> int:
        """Report images that gray ones replace; return how many.

        Raises:
            DataError: if there are more than may be.
        """
        for place, reason in reasons.items():
            sample = int(samples[place])
            where = self._source.describe(sample)
            why = reason.removeprefix(f"{where}: ")
            _log.warning("%s: %s; a gray image takes its place", self._named(sample), why)
            if self._report is not None:
                self._report(BadSample(sample, self._source.key(sample), where, why, epoch))
            self._samples.add(sample)
        if len(self._samples) > (limit := self._data.max_bad_samples):
            raise DataError(
                f"{counted(len(self._samples), 'image')} cannot be read, such as"
                f" {self._named(min(self._samples))}; data.max_bad_samples allows {limit} to be"
                " replaced. See whether the storage works, or repair the data"
                " (tools/check_data.py names what is wrong)"
            )
        return len(reasons)

    def _named(self, sample: int) -> str:
        where, key = self._source.describe(sample), self._source.key(sample)
        return where if key in where else f"{where} (key {key})"
