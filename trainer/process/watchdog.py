"""Notices a rank that hangs or died, and ends the run in words instead of waiting for ever.

Each rank publishes what it is doing in the store of the process group, from a thread of its own.
Rank 0 looks at all of them and the others look at rank 0, so that the store answers two questions
a rank and round, whatever their number. gloo notices a dead peer by itself, nccl does not, and
none of them notices one that stands still.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch.distributed as dist

_ROUNDS_PER_LIMIT = 12
_LONGEST_ROUND_S = 5.0
_TIMES_LONGEST = 5
"""A bounded activity may take so many times as long as the longest one before it."""
_GRACE_ROUNDS = 2
"""Rounds in which a process that fails says so itself, and in which the others read a verdict."""
_VERDICT = "verdict"


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life of a rank, as it is published.

    Attributes:
        host: where it runs.
        process: its number there.
        beat: counts the signs.
        what: what it is doing.
        count: how many activities it has begun.
        overdue_s: how long the activity has taken, if that is too long; else 0.
    """

    host: str
    process: int
    beat: int
    what: str
    count: int
    overdue_s: float

    def __str__(self) -> str:
        """Name the process, for a message."""
        return f"on {self.host} (process {self.process})"


class Watchdog:
    """Watches all ranks; each makes one once the process group stands (collective).

    Nothing is watched in a run of one rank.
    """

    def __init__(self, limit_s: float, give_up: Callable[[str], object]) -> None:
        """Begin to watch.

        Args:
            limit_s: seconds without a sign of life, or in one bounded activity, that are too long;
                0: watch nothing.
            give_up: ends this process; takes what is wrong, empty where another rank says it.
        """
        self._limit_s = limit_s
        self._round_s = min(_LONGEST_ROUND_S, limit_s / _ROUNDS_PER_LIMIT)
        self._give_up = give_up
        self._rank, self._size = dist.get_rank(), dist.get_world_size()
        self._sign = Sign(socket.gethostname(), os.getpid(), 0, "starting", 0, 0.0)
        self._began, self._longest_s, self._bounded = time.monotonic(), 0.0, False
        self._finished = threading.Event()
        self._answered = time.monotonic()
        self._signs = _Signs(limit_s)
        if limit_s > 0 and self._size > 1:
            # A connection of its own: the first collective of nccl blocks the other one for long.
            address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = dist.TCPStore(*address)  # pyright: ignore[reportPrivateImportUsage]
            self._store = dist.PrefixStore(  # pyright: ignore[reportPrivateImportUsage]
                "watchdog", store
            )
            self._publish()
            for work in (self._exchange, self._watch_store):
                threading.Thread(target=work, daemon=True, name="watchdog").start()

    def doing(self, what: str, *, bounded: bool = False) -> None:
        """Say what this rank begins to do; `bounded` if it may not take much longer than before."""
        now = time.monotonic()
        if self._bounded:
            self._longest_s = max(self._longest_s, now - self._began)
        self._bounded = False  # while the two change that belong together
        self._began = now
        self._sign = replace(self._sign, what=what, count=self._sign.count + 1)
        self._bounded = bounded

    def finish(self) -> None:
        """Watch no more (collective): no rank takes the end of another one for a failure."""
        dist.barrier()
        self._finished.set()

    def _publish(self) -> Sign:
        took = time.monotonic() - self._began
        is_long = self._bounded and took > max(self._limit_s, _TIMES_LONGEST * self._longest_s)
        sign = replace(self._sign, beat=round(time.time() * 1000), overdue_s=took * is_long)
        self._store.set(str(self._rank), json.dumps(asdict(sign)))
        return sign

    def _exchange(self) -> None:
        """Publish, read and judge, round for round; a thread's work."""
        watched = [0] if self._rank else list(range(1, self._size))
        try:
            self._store.wait([str(rank) for rank in watched])
            while not self._finished.wait(self._round_s):
                mine = self._publish()
                if self._rank and self._store.check([_VERDICT]):
                    self._end("")
                found = self._store.multi_get([str(rank) for rank in watched])
                self._answered = time.monotonic()
                signs = [Sign(**json.loads(text)) for text in found]
                heard = dict(zip(watched, signs, strict=True)) | {self._rank: mine}
                rank, verdict = self._signs.judge(heard)
                if verdict and self._rank == 0:
                    self._store.set(_VERDICT, verdict)
                if verdict and 0 in (rank, self._rank):
                    self._end(verdict)
        except RuntimeError:  # rank 0 keeps the store
            if not self._finished.wait(_GRACE_ROUNDS * self._round_s):
                self._end("rank 0 has ended without a farewell; its own message says why")

    def _watch_store(self) -> None:
        """Notice that the store does not answer, as when rank 0 stands still; a thread's work."""
        last = time.monotonic()
        while not self._finished.wait(self._round_s):
            now = time.monotonic()
            if now - last > self._limit_s:  # this process itself stood still
                self._answered = now
            last = now
            if (silent := now - self._answered) > self._limit_s + _GRACE_ROUNDS * self._round_s:
                self._end(f"rank 0 has not answered for {silent:.0f} s")

    def _end(self, verdict: str) -> None:
        if self._rank == 0:
            self._finished.wait(_GRACE_ROUNDS * self._round_s)
        if not self._finished.is_set():
            self._give_up(verdict)


class _Signs:
    """What is known of ranks: when each gave its last sign."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._last: dict[int, Sign] = {}
        self._heard: dict[int, float] = {}
        self._judged = time.monotonic()

    def judge(self, signs: dict[int, Sign]) -> tuple[int, str]:
        """Return a rank that hangs and what is known of it; an empty text if none does."""
        now = time.monotonic()
        if now - self._judged > self._limit_s / 2:  # this process itself stood still
            self._last = {}
        self._judged = now
        for rank, sign in signs.items():
            if rank not in self._last or self._last[rank].beat != sign.beat:
                self._last[rank], self._heard[rank] = sign, now
        for rank, sign in self._last.items():
            if (silent := now - self._heard[rank]) > self._limit_s:
                return rank, (
                    f"rank {rank} {sign} has given no sign of life for {silent:.0f} s; it was"
                    f" last {sign.what}"
                )
        # The others wait for the one that is behind, and may be overdue because of that.
        rank, sign = min(signs.items(), key=lambda item: item[1].count)
        if sign.overdue_s:
            return rank, f"rank {rank} {sign} has been {sign.what} for {sign.overdue_s:.0f} s"
        return 0, ""
