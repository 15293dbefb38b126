"""The folder of a run: `recipe.yaml`, `metrics.jsonl`, `summary.json`, `checkpoints/`.

A folder belongs to one recipe and to one process at a time. A run may go on with another number
of ranks, another ZeRO stage or other bookkeeping, but never with a recipe that gives other results.
"""

import dataclasses
import fcntl
import json
import logging
import time
from pathlib import Path
from typing import TextIO

from pipeline.storage.files import remove_parts, write_atomically
from trainer import yaml_config
from trainer.recipe import Recipe
from trainer.yaml_config import ConfigError

_log = logging.getLogger(__name__)

RECIPE_FILE = "recipe.yaml"


class RunFolder:
    """Where a run's files lie."""

    def __init__(self, path: Path, *, patience_s: float = 30.0) -> None:
        """Name the files below `path`; `patience_s` is how long `open` waits for the lock."""
        self.path = path
        self._patience_s = patience_s
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self._lock: TextIO | None = None

    def open(self, recipe: Recipe) -> None:
        """Create or continue the folder for `recipe` (rank 0).

        It stays locked until `close`, or until the process ends, however that happens.

        Raises:
            ConfigError: if another process holds it, or it belongs to another recipe.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        remove_parts(self.path)
        self._check_recipe(recipe)
        write_atomically(self.path / RECIPE_FILE, yaml_config.dump(recipe).encode())

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            self._lock.close()

    def write_summary(self, summary: dict[str, float | int]) -> None:
        """Write `summary.json`, by which other programs know that the run is complete."""
        write_atomically(self.summary, json.dumps(summary, indent=2).encode() + b"\n")

    def _take_lock(self) -> TextIO:
        """Lock the folder; a run that was just told to stop is given time to save."""
        file = (self.path / ".lock").open("w")
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except OSError:
                if time.monotonic() >= deadline:
                    file.close()
                    raise ConfigError(
                        f"{self.path}: another process is training in this folder; wait for it,"
                        " stop it, or choose another run.name"
                    ) from None
            _log.warning("%s: another process is there; waiting for it to end", self.path)
            time.sleep(min(5.0, self._patience_s))

    def _check_recipe(self, recipe: Recipe) -> None:
        path = self.path / RECIPE_FILE
        if not path.exists():
            return
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


def differences(before: Recipe, after: Recipe) -> list[str]:
    """Lines `section.key: was A, now B` for all that changes results."""
    lines: list[str] = []
    for section in dataclasses.fields(Recipe):
        old, new = getattr(before, section.name), getattr(after, section.name)
        for item in dataclasses.fields(old):
            values = getattr(old, item.name), getattr(new, item.name)
            changed = _with(before, section.name, item.name, values[1])
            if values[0] != values[1] and changed != before.results_fingerprint():
                lines.append(f"{section.name}.{item.name}: was {values[0]!r}, now {values[1]!r}")
    return lines


def _with(recipe: Recipe, section: str, name: str, value: object) -> str:
    """Fingerprint of `recipe` with one value changed; empty where the two cannot go together."""
    try:
        changed = dataclasses.replace(getattr(recipe, section), **{name: value})
        return dataclasses.replace(recipe, **{section: changed}).results_fingerprint()
    except ValueError:
        return ""
