"""Several processes, on one machine or many, that write the shards of one folder.

Shard s belongs to part s mod n, so all parts have shards from all over the plan and need about the
same time. Locks keep two writers apart: whoever writes all shards, or completes the folder, holds
it alone; parts hold it together, and each holds its own number.
"""

import fcntl
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.storage.files import write_atomically
from pipeline.storage.locks import lock, lock_file

_MUTEX_NAME = "lock.mutex"
_FOLDER_NAME = "lock"
COUNT_NAME = "parts"


@dataclass(frozen=True)
class Part:
    """Part `number` of `count`; numbers begin at 0."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ValueError(
                f"a part is i/n with 0 <= i < n (parts are counted from 0), got {self}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def shards(self, num_shards: int) -> range:
        """Return the numbers of the shards that belong to this part."""
        return range(self.number, num_shards, self.count)


WHOLE = Part(0, 1)


def parse_part(text: str) -> Part:
    """Read a part written as `i/n`.

    Raises:
        ValueError: if it is not of that form, or out of range.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise ValueError(f"a part is i/n, such as 0/16 (the first of 16), got {text!r}")
    return Part(int(match[1]), int(match[2]))


@contextmanager
def claimed(folder: Path, part: Part, check_state: Callable[[], None]) -> Iterator[None]:
    """Hold `part` of an output.

    Args:
        folder: the output's state folder, which exists.
        part: `WHOLE` holds the output alone.
        check_state: called when the part is held, by one process at a time: to look at the state
            that parts share, and to write it if it is not there.

    Raises:
        OutputError: if another process holds it.
    """
    with (
        lock_file(folder / _FOLDER_NAME) as shared,
        lock_file(folder / f"{_FOLDER_NAME}.{part.number}") as own,
    ):
        with lock_file(folder / _MUTEX_NAME) as mutex:
            # Held for moments: of parts that start together each finds a settled state.
            fcntl.flock(mutex, fcntl.LOCK_EX)
            if part == WHOLE:
                refusal = f"{folder.parent}: another process is writing shards here"
                lock(shared, fcntl.LOCK_EX, refusal)
            else:
                _join_parts(folder, shared, part)
                refusal = f"{folder.parent}: another process is writing part {part}"
                lock(own, fcntl.LOCK_EX, refusal)
            check_state()
        yield


def read_count(folder: Path) -> int:
    """Return in how many parts the shards are being written, 1 if in one."""
    path = folder / COUNT_NAME
    return int(path.read_text()) if path.exists() else 1


def _join_parts(folder: Path, shared: int, part: Part) -> None:
    """Hold the folder together with other parts of the same division; the first one decides it."""
    with suppress(BlockingIOError):
        fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_atomically(folder / COUNT_NAME, str(part.count).encode())
    lock(shared, fcntl.LOCK_SH, f"{folder.parent}: another process is writing all shards here")
    if (count := read_count(folder)) != part.count:
        raise OutputError(f"{folder.parent}: is being written in {count} parts, not {part.count}")
