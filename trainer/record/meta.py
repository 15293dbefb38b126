"""What a checkpoint says beside its tensors: `meta.json`, which has a checksum of itself."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.weights.description import ModelDescription, description_from_tree
from trainer.events import Evaluated, LogMark

FORMAT = 2
"""Version of the layout. Format 1, without a checksum of `meta.json`, is read too."""

Tree = dict[str, Any]
"""What `meta.json` holds; `parse` gives it types."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message says what is left and the remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunProgress:
    """How far a run is: all the loader state that a checkpoint needs."""

    epoch: int = 0
    step_in_epoch: int = 0
    """Optimizer steps done in `epoch`."""
    step: int = 0
    """Optimizer steps done in the run."""
    best_top1: float = -1.0
    """The best top-1 of all evaluations so far; -1 before the first."""
    evaluations_since_best: int = 0

    def after_epoch(self, evaluated: Evaluated | None) -> "RunProgress":
        """The progress when the epoch is over, and evaluated where it was."""
        done = replace(self, epoch=self.epoch + 1, step_in_epoch=0)
        if evaluated is None:
            return done
        if evaluated.top1 > self.best_top1:
            return replace(done, best_top1=evaluated.top1, evaluations_since_best=0)
        return replace(done, evaluations_since_best=self.evaluations_since_best + 1)

    def is_stale(self, patience: int) -> bool:
        """Whether `patience` evaluations in a row were no better; never if it is 0."""
        return 0 < patience <= self.evaluations_since_best


@dataclass(kw_only=True, slots=True)
class Tally:
    """What a run has cost so far, over all its processes, as rank 0 sees it."""

    images: int = 0
    """Training images, over all ranks."""
    train_s: float = 0.0
    """Seconds in optimizer steps, waiting for data included."""
    wait_s: float = 0.0
    """Seconds of these in which the slowest rank waited for data."""
    wall_s: float = 0.0
    """Seconds in all, up to the last save."""
    eval_s: float = 0.0
    """Seconds of evaluations; 0 in checkpoints from before they were counted."""
    save_s: float = 0.0
    """Seconds of saves, likewise."""

    @property
    def images_per_s(self) -> float:
        """Training throughput."""
        return self.images / self.train_s if self.train_s else 0.0

    @property
    def wait_fraction(self) -> float:
        """Share of the training time spent on waiting for data."""
        return self.wait_s / self.train_s if self.train_s else 0.0

    def since(self, earlier: "Tally") -> "Tally":
        """The difference to an earlier tally of the same run."""
        names = ("images", "train_s", "wait_s", "wall_s", "eval_s", "save_s")
        return Tally(**{name: getattr(self, name) - getattr(earlier, name) for name in names})


@dataclass(frozen=True, kw_only=True, slots=True)
class Meta:
    """What `meta.json` says beside the tensors."""

    progress: RunProgress
    results_fingerprint: str
    """Of the recipe (`Recipe.results_fingerprint`)."""
    data_fingerprint: str
    """Of the training data: number of images and class names."""
    tally: Tally
    evaluated: Evaluated | None = None
    """The evaluation just before the checkpoint; of the EMA weights if there are any."""
    log: LogMark | None = None
    """Where the log of the run stood; None in format 1."""
    environment: dict[str, str | int] = field(default_factory=dict)
    """World size, ZeRO stage, versions, commit: for the reader, not for resuming."""
    model: ModelDescription | None = None
    """What the weights are of; None in checkpoints from before it was written."""

    @property
    def ranks(self) -> int:
        """Ranks of the processes that made it; 0 if it does not say."""
        return int(self.environment.get("world_size", 0))


def read_tree(path: Path) -> Tree:
    """Contents of `meta.json` in a checkpoint folder, whose checksum holds.

    Raises:
        CheckpointError: if it has another format.
        OSError, ValueError, KeyError, TypeError: if it is damaged.
    """
    tree = json.loads((path / "meta.json").read_text(encoding="utf-8"))
    if "sha256" in tree:
        if tree.pop("sha256") != digest(tree):
            raise ValueError("it does not have its sha256")
    elif tree["format"] != 1:
        raise ValueError("it has no sha256")
    if tree["format"] not in (1, FORMAT):
        raise CheckpointError(
            f"{path}: format {tree['format']}, and this version reads format {FORMAT};"
            " use the version that wrote it"
        )
    return tree


def digest(tree: Tree) -> str:
    """SHA-256 of a tree without its `sha256`."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def parse(tree: Tree) -> Meta:
    """Give the contents of a `meta.json` types.

    Raises:
        KeyError, TypeError: if something is missing or too much.
    """
    names = ("results_fingerprint", "data_fingerprint", "environment")
    return Meta(
        progress=RunProgress(**tree["progress"]),
        tally=Tally(**tree["tally"]),
        evaluated=Evaluated(**tree["evaluated"]) if tree["evaluated"] else None,
        model=description_from_tree(tree["model"]) if tree.get("model") else None,
        log=LogMark(**tree["log"]) if tree.get("log") else None,
        **{name: tree[name] for name in names},
    )
