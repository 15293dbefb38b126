"""The log of a run on rank 0: every sink, opened where the newest checkpoint left it."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from trainer.events import ConsoleProgress, Fanout, Jsonl, LogMark, Saved, Sink, TensorBoard
from trainer.process.signals import StopSignal
from trainer.record.meta import Meta
from trainer.record.run_folder import RunFolder
from trainer.record.summary_csv import SummaryCsv


def open_log(
    folder: RunFolder,
    stop: StopSignal,
    stack: ExitStack,
    latest: Path | None,
    meta: Meta | None,
    *,
    total: int,
) -> tuple[Sink, Callable[[], LogMark | None]]:
    """Open the sinks; `stack` closes them.

    Args:
        folder: of the run.
        stop: told when a sink fails.
        stack: of what is closed at the end of the run.
        latest: the newest checkpoint.
        meta: what it says.
        total: optimizer steps of the run.

    Returns:
        Where events go, and what says how far the log is.
    """
    jsonl = stack.enter_context(closing(Jsonl(folder.metrics)))
    saved, done = None, 0
    if meta is not None:
        done = meta.progress.step
        saved = Saved(step=done, epoch=meta.progress.epoch, path=str(latest))
    jsonl.resume(saved, meta.log if meta else None)
    console = stack.enter_context(closing(ConsoleProgress(total_steps=total, done_steps=done)))
    board = stack.enter_context(closing(TensorBoard(folder.path / "tensorboard", resume_step=done)))
    table = SummaryCsv(folder.path / "summary.csv", folder.metrics)
    return Fanout([console, jsonl, board, table], stop.fail), jsonl.mark
