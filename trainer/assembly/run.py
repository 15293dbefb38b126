"""A run from its start to its summary."""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from models.kernels import switch
from trainer.assembly.batch_size import with_known_batch
from trainer.assembly.data import open_splits
from trainer.assembly.trainer import assemble
from trainer.events import Note, Sink
from trainer.job import Outcome
from trainer.loop import Trainer
from trainer.process.signals import StopSignal
from trainer.process.tf32 import allow_tf32
from trainer.process.watchdog import Watchdog
from trainer.process.world import World, on_main, share_cores
from trainer.recipe import Recipe
from trainer.record import announcement, checkpoint
from trainer.record.run_folder import RunFolder
from trainer.tuning.tuned import with_tuned

_log = logging.getLogger(__name__)


def train(
    recipe: Recipe, world: World, stop: StopSignal, give_up: Callable[[str], object]
) -> Outcome:
    """Train `recipe` from where its run folder stands; `give_up` as `Watchdog` takes it.

    Raises:
        ConfigError: a recipe that does not go with the data, the ranks or the run folder.
        DataError: data that cannot be read.
        CheckpointError: a checkpoint that cannot be written or read.
        TrainingError: gradients or weights that are not finite.
        OSError: a file of the run that cannot be written.
    """
    share_cores(world)
    allow_tf32(recipe.precision.allow_tf32)
    if recipe.run.max_hours:
        stop.deadline = time.monotonic() + 3600 * recipe.run.max_hours
    folder = RunFolder(Path(recipe.run.root, recipe.run.name))
    sources = open_splits(recipe.data)
    with ExitStack() as stack:
        stack.enter_context(closing(folder))
        begun_with = on_main(lambda: folder.open(recipe))
        if on_main(lambda: _is_complete(recipe, folder)):
            return Outcome.COMPLETE
        recipe, found = with_known_batch(recipe, world, begun_with, sources)
        accumulates = recipe.batch.global_size > recipe.batch.known_per_gpu * world.world_size
        recipe, tuned = on_main(
            partial(with_tuned, recipe, world.device, begun_with, accumulates=accumulates)
        )
        switch.choose(recipe.run.kernels)
        watchdog = Watchdog(recipe.run.watchdog_s, give_up)
        trainer, emit = assemble(recipe, world, stop, folder, sources, stack, watchdog)
        for text in filter(None, (found, tuned)):
            emit(Note(step=trainer.progress.step, text=text))
        outcome = trainer.fit()
        if outcome is Outcome.COMPLETE:
            on_main(lambda: _close(trainer, emit, folder, len(sources[0].classes)))
        watchdog.finish()
    return outcome


def _close(trainer: Trainer, emit: Sink, folder: RunFolder, num_classes: int) -> None:
    """Write `summary.json`, and say how the run went."""
    progress, tally, result = trainer.progress, trainer.tally, trainer.result
    assert result is not None
    folder.write_summary(announcement.summary(result, progress, tally))
    text = announcement.closing_words(
        result, progress, tally, num_classes=num_classes, folder=folder.path
    )
    emit(Note(step=progress.step, text=text))


def _is_complete(recipe: Recipe, folder: RunFolder) -> bool:
    """Whether nothing is left to do; says so."""
    latest, _ = checkpoint.find_latest(folder.checkpoints)
    if latest is None or not folder.summary.exists():
        return False
    progress = checkpoint.read_meta(latest).progress
    is_done = progress.epoch >= recipe.schedule.total_epochs
    is_done = is_done or progress.is_stale(recipe.run.patience)
    if is_done:
        _log.warning(
            "%s: this run is complete after %d epochs, and nothing is done; choose another"
            " run.name to train anew",
            *(folder.path, progress.epoch),
        )
    return is_done
