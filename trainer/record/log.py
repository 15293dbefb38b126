"""The log of a run on rank 0: every sink, opened where the newest checkpoint left it."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from trainer import yaml_config
from trainer.events import Fanout, Jsonl, LogMark, Saved, Sink
from trainer.process.signals import StopSignal
from trainer.recipe import Recipe
from trainer.record.log_reader import read_log
from trainer.record.meta import Meta
from trainer.record.run_folder import RunFolder
from trainer.record.summary_csv import SummaryCsv
from trainer.sinks.chosen import open_chosen
from trainer.sinks.console import ConsoleProgress
from trainer.sinks.place import Place


def open_log(
    recipe: Recipe,
    folder: RunFolder,
    stop: StopSignal,
    stack: ExitStack,
    latest: Path | None,
    meta: Meta | None,
) -> tuple[Sink, Callable[[], LogMark | None]]:
    """Open the sinks; `stack` closes them.

    Args:
        recipe: says which sinks.
        folder: of the run.
        stop: told when a sink fails.
        stack: of what is closed at the end of the run.
        latest: the newest checkpoint.
        meta: what it says.

    Returns:
        Where events go, and what says how far the log is.
    """
    jsonl = stack.enter_context(closing(Jsonl(folder.metrics)))
    saved, done = None, 0
    if meta is not None:
        done = meta.progress.step
        saved = Saved(step=done, epoch=meta.progress.epoch, path=str(latest))
    jsonl.resume(saved, meta.log if meta else None)
    console = stack.enter_context(closing(ConsoleProgress(folder.path.name, read_log(folder.path))))
    place = Place(
        folder=folder.path,
        project=recipe.run.project,
        done_steps=done,
        is_new=meta is None,
        recipe=yaml_config.plain(recipe),
    )
    log = Fanout([console, jsonl], stop.fail)
    chosen = [
        stack.enter_context(closing(sink)) for sink in open_chosen(recipe.run.sinks, place, log)
    ]
    table = SummaryCsv(folder.path / "summary.csv", folder.metrics)
    return Fanout([log, *chosen, table], stop.fail), jsonl.mark
