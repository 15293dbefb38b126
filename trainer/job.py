"""What a trainer works on: the parts of a run, which `assembly` constructs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from torch import Tensor

from models.weights.description import ModelDescription
from pipeline.augment.batches import Mixing
from pipeline.batch import Batch, Loader
from trainer.batch_plan import BatchPlan
from trainer.events import Evaluated, Event, LogMark
from trainer.optimization.model_draws import ModelDraws
from trainer.process.signals import StopAgreement
from trainer.process.speed import Utilization
from trainer.process.watchdog import Watchdog
from trainer.recipe import Recipe
from trainer.record.meta import RunProgress
from trainer.record.report.judged import Judged
from trainer.record.report.writer import NoReport
from trainer.watch.step_watch import StepWatch


class TrainingError(RuntimeError):
    """Training that cannot go on; the message says why and what to change."""


class Outcome(Enum):
    """How training ended, where it did not fail."""

    COMPLETE = auto()
    STOPPED = auto()
    """By a signal, and saved."""
    CUT_SHORT = auto()
    """By `run.max_steps`, and saved."""


class Transform(Protocol):
    """What is done to whole batches on the device."""

    def train(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) and soft targets (B, K)."""
        ...

    def mixing(self, batch: Batch, epoch: int) -> Mixing | None:
        """How `train` mixes the batch; None where it does not."""
        ...

    def evaluate(self, batch: Batch) -> Tensor:
        """Images (B, 3, H, W)."""
        ...


class Forward(Protocol):
    """A model's forward pass."""

    def __call__(
        self, images: Tensor, mixed: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, K) of (B, 3, H, W); with `mixed`, as `models.lvvit` says, tokens' too."""
        ...


class Objective(Protocol):
    """What is made smaller."""

    def __call__(self, forward: Forward, batch: Batch, progress: RunProgress) -> Tensor:
        """The loss of a micro-batch, a float32 scalar; `progress` keys the draws."""
        ...


class Report(Protocol):
    """What people look at while the run goes on."""

    def evaluated(self, judged: Judged, event: Evaluated) -> None:
        """Keep what an evaluation said of each image."""
        ...

    def write(self) -> None:
        """Bring it up to date."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What a trainer works on; it constructs none of it."""

    recipe: Recipe
    plan: BatchPlan
    train: Loader
    evaluation: Loader
    transform: Transform
    objective: Objective
    draws: ModelDraws
    emit: Callable[[Event], None]
    log_mark: Callable[[], LogMark | None]
    """Where the log stands now; asked on rank 0."""
    stop: StopAgreement
    watchdog: Watchdog
    watch: StepWatch
    utilization: Utilization
    checkpoints: Path
    data_fingerprint: str
    environment: dict[str, str | int]
    description: ModelDescription | None = None
    """What the weights are of."""
    report: Report = field(default_factory=NoReport)
    """Rank 0's is `ReportWriter`."""
