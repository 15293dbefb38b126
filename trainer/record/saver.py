"""Checkpoints of a run, written beside the training: it stands still while they are copied only.

At most one is in flight. What goes wrong on the disk is told to all ranks, which stop at one of the
next steps; the error itself is raised when they wait for the save.
"""

import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from trainer.ema import Ema
from trainer.engine.engine import Engine
from trainer.engine.gather import gather_state
from trainer.engine.state import TrainingState
from trainer.events import Evaluated, Note, Saved
from trainer.job import Job, TrainingError
from trainer.process.launcher import long_stop
from trainer.process.world import on_main
from trainer.record import checkpoint
from trainer.record.background import Background
from trainer.record.meta import Meta, RunProgress, Tally


class _Written(NamedTuple):
    saved: Saved
    stop_s: float
    """Seconds that a stop takes, at this pace: the step that is under way, the next one, a save."""


class Saver:
    """Copies the state of all ranks, and writes it in a thread of rank 0.

    Attributes:
        saved: what the newest checkpoint holds, whole or on its way; None before the first.
    """

    def __init__(self, job: Job, engine: Engine, ema: Ema | None) -> None:
        self._job = job
        self._engine = engine
        self._ema = ema
        self._background = Background[_Written](job.stop.ask)
        self._warned = False
        self.saved: RunProgress | None = None

    def save(self, progress: RunProgress, tally: Tally, evaluated: Evaluated | None) -> None:
        """Copy the state, and begin to write it (collective).

        Raises:
            CheckpointError, TrainingError: on every rank, if the save before this one failed.
            OSError: on every rank, if the log cannot be brought to the disk.
        """
        self.finish()  # before there is another copy in memory
        began = time.perf_counter()
        state = gather_state(self._engine)
        average = self._ema.gather() if self._ema is not None else {}
        if state is not None:
            state.ema = average
        meta = partial(self._meta, progress, replace(tally), evaluated)
        on_main(lambda: self._begin(state, meta(), began))
        self.saved = progress

    def poll(self) -> None:
        """Say that the checkpoint in flight is complete, if it is (rank 0; nothing elsewhere)."""
        self._say(self._background.poll())

    def finish(self) -> None:
        """Wait for the checkpoint in flight (collective).

        Raises:
            CheckpointError, TrainingError: on every rank, if it could not be written.
        """
        on_main(lambda: self._say(self._background.wait()))

    def settle(self) -> None:
        """Let what is in flight become whole, whatever ends the run; raises nothing."""
        self._background.settle()

    def _begin(self, state: TrainingState | None, meta: Meta, began: float) -> None:
        assert state is not None  # rank 0 has it
        self._background.start(lambda: self._write(state, meta, began))

    def _write(self, state: TrainingState, meta: Meta, began: float) -> _Written:
        """Write a checkpoint; a thread's work."""
        if odd := state.not_finite():
            raise TrainingError(
                f"after step {meta.progress.step}, {len(odd)} tensors are not finite, such as"
                f" {odd[0]}; nothing was saved, and the checkpoints before are sound. Lower"
                " optim.lr or set optim.clip_norm, and start the same command again"
            )
        keep = self._job.recipe.run.keep_checkpoints
        path = checkpoint.write(self._job.checkpoints, state, meta, keep=keep)
        step = meta.progress.step
        steps_s = 2 * meta.tally.train_s / max(1, step)
        saved = Saved(step=step, epoch=meta.progress.epoch, path=str(path))
        return _Written(saved, steps_s + time.perf_counter() - began)

    def _say(self, written: _Written | None) -> None:
        # Here, and not in the thread: before the log is marked for the next checkpoint.
        if written is None:
            return
        self._job.emit(written.saved)
        if not self._warned and (text := long_stop(written.stop_s)):
            self._job.emit(Note(step=written.saved.step, text=text))
            self._warned = True

    def _meta(self, progress: RunProgress, tally: Tally, evaluated: Evaluated | None) -> Meta:
        return Meta(
            progress=progress,
            results_fingerprint=self._job.recipe.results_fingerprint(),
            data_fingerprint=self._job.data_fingerprint,
            tally=tally,
            evaluated=evaluated,
            log=self._job.log_mark(),
            environment=self._job.environment,
            model=self._job.description,
        )
