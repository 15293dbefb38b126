"""Writes the report while a run trains: after each evaluation, and when the process ends.

A report is not worth a run: whatever fails here is said once in the log, and training goes on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor

from models.weights.description import words_for
from pipeline.augment.batches import Mixing
from pipeline.batch import Batch
from pipeline.config import InputSpec
from pipeline.formats.source import Source
from pipeline.storage.files import write_atomically
from trainer.events import Evaluated, Note
from trainer.record.report.files import read_run
from trainer.record.report.judged import Judged
from trainer.record.report.kept import MAX_BATCH, SeenBatch, keep_batch, keep_evaluation
from trainer.record.report.page import page

REPORT_FILE = "report.html"


class _Transform(Protocol):
    def train(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]: ...
    def mixing(self, batch: Batch, epoch: int) -> Mixing | None: ...
    def evaluate(self, batch: Batch) -> Tensor: ...


class Watched:
    """A transform of batches that keeps the first images it makes."""

    def __init__(self, transform: _Transform) -> None:
        self._transform = transform
        self._seen: SeenBatch | None = None
        self._has_seen = False

    def train(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        """As `trainer.job.Transform`."""
        images, targets = self._transform.train(batch, epoch)
        if not self._has_seen:  # they stay on the device: fetching them would stop it
            first = images[:MAX_BATCH].clone(), targets[:MAX_BATCH].clone()
            self._seen, self._has_seen = SeenBatch(*first, epoch), True
        return images, targets

    def mixing(self, batch: Batch, epoch: int) -> Mixing | None:
        """As `trainer.job.Transform`."""
        return self._transform.mixing(batch, epoch)

    def evaluate(self, batch: Batch) -> Tensor:
        """As `trainer.job.Transform`."""
        return self._transform.evaluate(batch)

    def take(self) -> SeenBatch | None:
        """Give up what is kept."""
        seen, self._seen = self._seen, None
        return seen


class NoReport:
    """What the ranks other than the first write."""

    def evaluated(self, judged: Judged, event: Evaluated) -> None:
        """As `ReportWriter`."""

    def write(self) -> None:
        """As `ReportWriter`."""


class ReportWriter:
    """What rank 0 writes."""

    def __init__(
        self,
        run: Path,
        *,
        transform: Watched,
        source: Source,
        spec: InputSpec,
        emit: Callable[[Note], None],
    ) -> None:
        """Prepare.

        Args:
            run: folder of the run.
            transform: of the training batches.
            source: the validation images.
            spec: of the training images.
            emit: where a failure is said.
        """
        self._run = run
        self._transform = transform
        self._source = source
        self._words = words_for(source.classes)
        self._spec = spec
        self._emit = emit
        self._step = 0
        self._said: set[str] = set()

    def evaluated(self, judged: Judged, event: Evaluated) -> None:
        """Keep what an evaluation said of each image."""
        self._step = event.step
        self._try(
            lambda: keep_evaluation(
                self._run,
                judged,
                self._source,
                self._words,
                step=event.step,
                epoch=event.epoch,
                ema=event.ema,
            )
        )

    def write(self) -> None:
        """Write the page, from what the files of the run say now."""
        self._try(self._write)

    def close(self) -> None:
        """Write the page as the process leaves the run."""
        self.write()

    def _write(self) -> None:
        if (seen := self._transform.take()) is not None:
            keep_batch(self._run, seen, self._spec, self._words)
        write_atomically(self._run / REPORT_FILE, page([read_run(self._run)]).encode())

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (a run does not end because of its report)
            text = f"{self._run / REPORT_FILE} is not up to date ({type(error).__name__}: {error});"
            text += " training goes on"
            if text not in self._said:
                self._said.add(text)
                self._emit(Note(step=self._step, text=text))
