"""The folder of a run: `recipe.yaml`, `metrics.jsonl`, `summary.json`, `checkpoints/`.

A folder belongs to one recipe and to one process at a time. A run may go on with another number
of ranks, another ZeRO stage or other bookkeeping, but never with a recipe that gives other results.
"""

import dataclasses
import fcntl
import json
import logging
import os
import shlex
import socket
import time
from pathlib import Path
from typing import TextIO

from pipeline.storage.files import remove_parts, write_atomically
from trainer import yaml_config
from trainer.recipe import Recipe
from trainer.record.exit_file import EXIT_FILE, LOCK_FILE
from trainer.yaml_config import ConfigError

_log = logging.getLogger(__name__)

RECIPE_FILE = "recipe.yaml"


class RunFolder:
    """Where a run's files lie."""

    def __init__(self, path: Path, *, patience_s: float = 120.0) -> None:
        """Name the files below `path`; `patience_s` is how long `open` waits for the lock."""
        self.path = path
        self._patience_s = patience_s
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self._lock: TextIO | None = None

    def open(self, recipe: Recipe) -> Recipe | None:
        """Lock the folder, and see that `recipe` may go on there (rank 0).

        It stays locked until `close`, or until the process ends, however that happens. A folder
        without a checkpoint is free for any recipe.

        Returns:
            The recipe of the run that goes on; None of a new one.

        Raises:
            ConfigError: if another process holds it, or it belongs to another recipe.
            OSError: if it cannot be written to; the message names it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
        except OSError as error:
            raise OSError(
                f"run.root: the folder {self.path} cannot be written to ({error});"
                " choose another run.root, or mend that"
            ) from error
        (self.path / EXIT_FILE).unlink(missing_ok=True)
        return self._begun_with(recipe) if any(self.checkpoints.glob("step_*")) else None

    def claim(self, recipe: Recipe) -> None:
        """Make the folder that of `recipe`, which has been found able to train (rank 0)."""
        self.checkpoints.mkdir(exist_ok=True)
        remove_parts(self.path)
        write_atomically(self.path / RECIPE_FILE, yaml_config.dump(recipe).encode())

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            self._lock.close()

    def write_summary(self, summary: dict[str, float | int | bool]) -> None:
        """Write `summary.json`, by which other programs know that the run is complete."""
        write_atomically(self.summary, json.dumps(summary, indent=2).encode() + b"\n")

    def _take_lock(self) -> TextIO:
        """Lock the folder; a run that was just told to stop is given time to save."""
        file = (self.path / LOCK_FILE).open("a+", encoding="utf-8")
        deadline = time.monotonic() + self._patience_s
        while not _locks(file):
            file.seek(0)
            holder = file.read().strip() or "another process"
            if time.monotonic() >= deadline:
                file.close()
                raise ConfigError(
                    f"{self.path}: {holder} is training in this folder; wait for it,"
                    " stop it, or choose another run.name"
                )
            _log.warning(
                "%s: %s is there; waiting up to %.0f s for it to end",
                *(self.path, holder, deadline - time.monotonic()),
            )
            time.sleep(min(5.0, self._patience_s))
        file.truncate(0)  # `exit_file.dead_process` reads what is written here
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {socket.gethostname()}, started {started},")
        file.flush()
        return file

    def _begun_with(self, recipe: Recipe) -> Recipe | None:
        path = self.path / RECIPE_FILE
        if not path.exists():
            return None
        try:
            before = yaml_config.load(Recipe, path)
        except ConfigError as error:
            raise ConfigError(
                f"{error}\n{self.path} was made by another version; choose another run.name"
            ) from None
        if before.results_fingerprint() != recipe.results_fingerprint():
            changes = "\n".join(f"  {line}" for line in differences(before, recipe))
            raise ConfigError(
                f"{self.path} belongs to another recipe; these values differ:\n{changes}\n"
                "Choose another run.name, or restore the values to go on with this run"
            )
        return before


def read_recipe(run: Path) -> Recipe | None:
    """The recipe of a run; None if it has none that this version reads."""
    try:
        return yaml_config.load(Recipe, run / RECIPE_FILE)
    except ConfigError:
        return None


def next_commands(run: Path) -> tuple[str, str]:
    """What is done with a run that is complete; `run` is its folder."""
    folder, classes = shlex.quote(str(run)), shlex.quote(str(run / "classes.csv"))
    return (
        f"python tools/validate.py {folder} --per-class {classes}",
        f"python tools/export_weights.py {folder} --format hub --output {shlex.quote(run.name)}",
    )


def _locks(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def differences(before: Recipe, after: Recipe) -> list[str]:
    """Lines `section.key: was A, now B` for all that changes results."""
    changes = changed_values(before, after)
    return [f"{key}: was {old!r}, now {new!r}" for key, old, new in changes]


def changed_values(before: Recipe, after: Recipe) -> list[tuple[str, object, object]]:
    """`section.key` with its value in each, of all that changes results."""
    changes: list[tuple[str, object, object]] = []
    fingerprint = before.results_fingerprint()
    for section in dataclasses.fields(Recipe):
        old, new = getattr(before, section.name), getattr(after, section.name)
        for item in dataclasses.fields(old):
            was, now = getattr(old, item.name), getattr(new, item.name)
            if was != now and _with(before, section.name, item.name, now) != fingerprint:
                changes.append((f"{section.name}.{item.name}", was, now))
    return changes


def _with(recipe: Recipe, section: str, name: str, value: object) -> str:
    """Fingerprint of `recipe` with one value changed; empty where the two cannot go together."""
    try:
        changed = dataclasses.replace(getattr(recipe, section), **{name: value})
        return dataclasses.replace(recipe, **{section: changed}).results_fingerprint()
    except ValueError:
        return ""
