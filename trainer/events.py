"""What happened in a run, as values; sinks decide where it goes.

The names in `metrics.jsonl` are a contract that other programs read.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.storage.files import write_atomically


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """An optimizer step, `step` counted from 1; the loss is the mean over its global batch."""

    event: ClassVar[str] = "step"
    step: int
    epoch: int
    """Counted from 0."""
    loss: float | None
    """None where it was not finite, and the engine skipped the step."""
    lr: float
    images_per_s: float
    """Over all ranks, since the last event of this kind, by rank 0's clock; evaluations and saves
    do not count."""
    data_wait_s: float
    """Seconds since the last event of this kind that the slowest rank waited for data: its host,
    or on a GPU its stream, which had nothing else to do."""
    data_wait_rank: int
    """The slowest rank."""
    grad_norm: float | None
    """Before clipping; None where the engine skipped the step."""
    images_per_s_per_gpu: float | None = None
    """`images_per_s` of one rank."""
    mfu: float | None = None
    """Model FLOPs utilization: the share of a GPU's peak that the model's products are, in 0..1;
    None where the peak or the model's cost is not known."""
    peak_memory_bytes: int | None = None
    """The most that any rank has used so far in its process: of a GPU's memory what torch has
    allocated, on a CPU the resident set."""


TIMINGS = (
    *("images_per_s", "images_per_s_per_gpu", "mfu"),
    *("peak_memory_bytes", "data_wait_s", "data_wait_rank"),
)
"""What of a `Step` says how it went on this machine; all else repeats when the run is repeated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """How the validation images are classified; accuracies are in percent."""

    event: ClassVar[str] = "eval"
    step: int
    epoch: int
    top1: float
    top5: float
    count: int
    ema: bool
    loss: float | None = None
    """Mean cross entropy with the label, without smoothing; None where it was not finite, and in
    checkpoints from before it was computed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """A checkpoint is complete under its final name."""

    event: ClassVar[str] = "save"
    step: int
    epoch: int
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something a reader of the log should know."""

    event: ClassVar[str] = "note"
    step: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A process of the run begins, or goes on; what it works with."""

    event: ClassVar[str] = "start"
    step: int
    """Steps done before."""
    total_steps: int
    epochs: int
    """Of the whole run."""
    batch: int
    """Images of a step, over all ranks."""
    per_gpu: int
    """Images that a rank processes at once."""
    num_classes: int
    """Of the data."""
    compile: str
    """`run.compile`."""
    lines: tuple[str, ...]
    """The same and more in words, the warnings last."""


Event = Step | Evaluated | Saved | Note | Started
Sink = Callable[[Event], None]


MIN_CLASSES_TOP5 = 10
"""Of fewer classes, top-5 says nothing."""


class Fanout:
    """Sends each event to every sink; one that fails does not keep it from the others."""

    def __init__(self, sinks: list[Sink], on_failure: Callable[[OSError], None]) -> None:
        self._sinks = sinks
        self._on_failure = on_failure

    def __call__(self, event: Event) -> None:
        """Pass `event` on."""
        for sink in self._sinks:
            self._send(sink, event)

    def _send(self, sink: Sink, event: Event) -> None:
        try:
            sink(event)
        except OSError as error:
            self._on_failure(error)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogMark:
    """Where `metrics.jsonl` stood when a checkpoint was made."""

    size_bytes: int
    unwritten: str = ""
    """Lines that the disk did not take."""


class Jsonl:
    """One JSON object a line; a run that goes on from a checkpoint cuts the log where it stood."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Unbuffered, so that what a full disk did not take is known to the byte.
        self._file = path.open("ab", buffering=0)
        self._unwritten = b""

    def __call__(self, event: Event) -> None:
        """Append `event`; a kill tears the last line at most.

        Raises:
            OSError: if the disk does not take it; the next call tries again.
        """
        line = {"event": event.event, **dataclasses.asdict(event)}
        self._unwritten += json.dumps(line).encode() + b"\n"
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def mark(self) -> LogMark:
        """Bring the log to the disk, and say where it stands."""
        os.fsync(self._file.fileno())
        return LogMark(size_bytes=self._file.tell(), unwritten=self._unwritten.decode())

    def resume(self, saved: Saved | None, mark: LogMark | None) -> None:
        """Cut off what was said after the checkpoint `saved`, since all that happens again.

        Args:
            saved: the event of the checkpoint; None for a new start.
            mark: where the log stood just before that event; None if unknown.
        """
        content = self._path.read_bytes()
        if saved is None:
            content = b""
        elif mark is not None and len(content) >= mark.size_bytes:
            content = content[: mark.size_bytes] + mark.unwritten.encode()
        else:  # of a version that set no mark, or lines were taken out of the log
            content = _lines_up_to(content, saved.step)
        self._file.close()
        write_atomically(self._path, content)
        self._file = self._path.open("ab", buffering=0)
        if saved is not None:
            self(saved)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines_up_to(content: bytes, step: int) -> bytes:
    """The whole lines up to `step`, and before its last save."""
    lines = [(line, _parse(line)) for line in content.splitlines(keepends=True)]
    kept = [(line, event) for line, event in lines if event and int(event["step"]) <= step]
    saves = [i for i, (_, e) in enumerate(kept) if (e["event"], e["step"]) == ("save", step)]
    return b"".join(line for line, _ in (kept[: saves[-1]] if saves else kept))


def _parse(line: bytes) -> dict[str, str | int] | None:
    try:
        return json.loads(line)
    except ValueError:  # torn by a kill
        return None
