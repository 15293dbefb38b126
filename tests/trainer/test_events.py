"""The event log of a run that was stopped: each line once."""

import json
import resource
import signal
from pathlib import Path

import pytest

from trainer.events import Evaluated, Event, Fanout, Jsonl, LogMark, Note, Saved, Step
from trainer.process.signals import StopSignal


def step_event(step: int) -> Step:
    return Step(
        step=step,
        epoch=0,
        loss=1.0,
        lr=0.1,
        images_per_s=1.0,
        data_wait_s=0.0,
        data_wait_rank=0,
        grad_norm=1.0,
    )


def evaluated(step: int) -> Evaluated:
    return Evaluated(step=step, epoch=0, top1=1.0, top5=2.0, count=3, ema=False)


def rows(path: Path) -> list[tuple[str, int]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["event"], line["step"]) for line in lines]


def write_log(path: Path, events: list[Event]) -> LogMark:
    sink = Jsonl(path)
    for event in events:
        sink(event)
    mark = sink.mark()
    sink.close()
    return mark


def resume(path: Path, mark: LogMark | None) -> list[tuple[str, int]]:
    sink = Jsonl(path)
    sink.resume(SAVED, mark)
    sink.close()
    return rows(path)


SAVED = Saved(step=2, epoch=0, path="x")
BEFORE: list[Event] = [step_event(1), step_event(2), evaluated(2)]
EXPECTED = [("step", 1), ("step", 2), ("eval", 2), ("save", 2)]


@pytest.mark.parametrize(
    "after",
    [
        [],  # killed between the checkpoint's rename and its line
        [SAVED],
        [SAVED, evaluated(2)],
        [SAVED, Note(step=2, text="after the save"), step_event(3)],
    ],
)
def test_a_resumed_log_is_that_of_the_checkpoint_with_its_save_once(tmp_path, after):
    path = tmp_path / "metrics.jsonl"
    mark = write_log(path, BEFORE)
    write_log(path, after)
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    assert resume(path, mark) == EXPECTED


@pytest.mark.parametrize("mark", [None, LogMark(size_bytes=10_000)], ids=["old", "cut by hand"])
def test_a_log_without_its_mark_is_cut_by_steps(tmp_path, mark):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [*BEFORE, SAVED, Note(step=2, text="after the save"), step_event(3)])
    assert resume(path, mark) == EXPECTED


def test_a_new_run_starts_an_empty_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, BEFORE)
    sink = Jsonl(path)
    sink.resume(None, None)
    sink(step_event(1))
    sink.close()
    assert rows(path) == [("step", 1)]


@pytest.fixture
def full_disk(tmp_path):
    """A log on a disk that takes 300 bytes, and a function that makes room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        yield (
            tmp_path / "metrics.jsonl",
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_that_a_full_disk_refused_are_kept_in_the_checkpoint(full_disk):
    path, make_room = full_disk
    sink, failures = Jsonl(path), []
    log = Fanout([sink], failures.append)
    for event in BEFORE:
        log(event)
    assert str(path) in str(failures[0])
    mark = sink.mark()
    sink.close()
    make_room()
    assert (mark.size_bytes, len(mark.unwritten) > 0) == (300, True)
    assert resume(path, mark) == EXPECTED


def test_lines_that_a_full_disk_refused_are_written_when_there_is_room(full_disk):
    path, make_room = full_disk
    sink, failures = Jsonl(path), []
    log = Fanout([sink], failures.append)
    for event in BEFORE:
        log(event)
    make_room()
    log(SAVED)
    sink.close()
    assert rows(path) == EXPECTED


@pytest.fixture
def handlers():
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    kept = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, kept, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_log_that_cannot_be_written_asks_all_ranks_to_stop():
    stop = StopSignal()
    assert not stop.received
    stop.fail(OSError("the first"))
    stop.fail(OSError("the second"))
    assert stop.received
    assert str(stop.failure) == "the first"
