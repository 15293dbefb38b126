"""Locks on files, held by a process and by the workers that it starts.

A lock of flock belongs to the open file, and workers are given the open file. So a run that is
killed holds its output until the last of its workers has left too, which takes them moments, and
whoever comes next waits for that: nobody writes where another run is at work.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError

PATIENCE_S = 5.0
"""How long the workers of a killed run may take to leave."""

_POLL_S = 0.02
_held: list[int] = []


@dataclass(frozen=True)
class HeldFile:
    """An open file that a process is started with: can be pickled with its arguments only."""

    descriptor: int

    def __reduce__(self) -> "tuple[Callable[[Any], HeldFile], tuple[Any]]":
        return _receive, (reduction.DupFd(self.descriptor),)


def held_files() -> tuple[HeldFile, ...]:
    """Return the open files whose locks this process holds, for a worker to hold them too."""
    return tuple(map(HeldFile, _held))


@contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """Open the file of a lock, for this process and for workers that are started meanwhile."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    _held.append(descriptor)
    try:
        yield descriptor
    finally:
        _held.remove(descriptor)
        os.close(descriptor)


@contextmanager
def locked(path: Path, refusal: str, *, patience_s: float | None = None) -> Iterator[None]:
    """Hold the lock of the file at `path` alone; `patience_s` as in `lock`.

    Raises:
        OutputError: saying `refusal`, if a process holds it that is not about to leave.
    """
    with lock_file(path) as descriptor:
        lock(descriptor, fcntl.LOCK_EX, refusal, patience_s=patience_s)
        yield


def lock(descriptor: int, kind: int, refusal: str, *, patience_s: float | None = None) -> None:
    """Take a lock, of the `kind` fcntl.LOCK_EX or LOCK_SH.

    Args:
        descriptor: of the open file.
        kind: of the lock.
        refusal: what to say where it is held.
        patience_s: seconds in which whoever holds it may leave; None: `PATIENCE_S`.

    Raises:
        OutputError: saying `refusal`, if a process holds it that is not about to leave.
    """
    deadline = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    while not _is_taken(descriptor, kind):
        if time.monotonic() >= deadline:
            raise OutputError(refusal)
        time.sleep(_POLL_S)


def _is_taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _receive(handle: Any) -> HeldFile:
    return HeldFile(handle.detach())
