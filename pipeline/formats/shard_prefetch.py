"""Which shards an epoch needs next, and which it is done with, as its order says.

Threads fetch shards in the order of their first use, as many ahead as the cache has room for. The
furthest shard that was read tells how far the epoch is; shards whose last use lies before it are
done with, and their room is free.
"""

import logging
import threading
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

_log = logging.getLogger(__name__)
_THREADS = 4
_RETRY_S = 0.5


Fetch = Callable[[int, frozenset[int]], bool]
"""Brings a shard into the cache, not at the cost of others that are listed; False if there is no
room without them, or if another process is at it."""


class ShardUse:
    """When an order uses each shard.

    Attributes:
        turns: (T,) the shards of the order, by first use.
    """

    def __init__(self, shards: NDArray[np.integer], sizes: NDArray[np.int64]) -> None:
        """Look at an order.

        Args:
            shards: (N,) the shard of each sample, in the order of reading.
            sizes: bytes of each shard.
        """
        used, first = np.unique(shards, return_index=True)
        last = len(shards) - 1 - np.unique(shards[::-1], return_index=True)[1]
        by_first = np.argsort(first)
        self.turns = used[by_first]
        self._first, self._last = first[by_first], last[by_first]
        self._sizes = sizes[self.turns]

    def is_done(self, front: int) -> NDArray[np.bool_]:
        """(T,) whether each turn is over when turn `front` has begun."""
        return self._last < self._first[front]

    def live_bytes(self, front: int, upto: int) -> int:
        """Bytes of the turns up to `upto` that are not over when `front` has begun."""
        return int(self._sizes[: upto + 1][~self.is_done(front)[: upto + 1]].sum())

    def peak_bytes(self) -> int:
        """Most bytes that are needed at once."""
        return max((self.live_bytes(turn, turn) for turn in range(len(self.turns))), default=0)


class ReadAhead:
    """Fetches the shards of one epoch ahead of their use until it is closed."""

    def __init__(
        self,
        use: ShardUse,
        *,
        limit_bytes: int,
        fetch: Fetch,
        release: Callable[[Iterable[int]], None],
    ) -> None:
        """Start the threads.

        Args:
            use: of the shards.
            limit_bytes: how much the shards in use and ahead may take together.
            fetch: brings one into the cache.
            release: is told of the shards that are done with.
        """
        self._use = use
        self._limit_bytes = limit_bytes
        self._fetch = fetch
        self._release = release
        self._turn_of = {int(shard): turn for turn, shard in enumerate(use.turns)}
        self._front = 0
        self._next = 0
        self._closed = False
        self._moved = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"fetch-shards-{i}", daemon=True)
            for i in range(min(_THREADS, len(use.turns)))
        ]
        for thread in self._threads:
            thread.start()

    def notice(self, shard: int) -> None:
        """Be told that a sample of `shard` is read."""
        turn = self._turn_of.get(shard, 0)
        if turn <= self._front:
            return
        with self._moved:
            self._front = max(turn, self._front)
            self._moved.notify_all()
        self._release(self._use.turns[self._use.is_done(self._front)].tolist())

    def close(self) -> None:
        """End the threads, which finish the download that they are at."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()
        self._release(self._use.turns.tolist())

    def _work(self) -> None:
        while (shard := self._take()) is not None:
            self._bring(shard)

    def _bring(self, shard: int) -> None:
        try:
            while not self._fetch(shard, self._wanted()) and not self._wait_for_room(shard):
                pass
        except DataError as error:  # the reader meets it too, and raises it
            _log.warning("reading ahead: %s", error)

    def _take(self) -> int | None:
        """Return the next shard to fetch when there is room for it; None at the end."""
        with self._moved:
            self._moved.wait_for(lambda: self._closed or self._is_exhausted() or self._fits())
            if self._closed or self._is_exhausted():
                return None
            self._next += 1
            return int(self._use.turns[self._next - 1])

    def _is_exhausted(self) -> bool:
        """Pass over what the reader is done with; whether nothing is left to fetch."""
        done = self._use.is_done(self._front)
        while self._next < len(done) and done[self._next]:
            self._next += 1
        return self._next >= len(done)

    def _wanted(self) -> frozenset[int]:
        """Return the shards that are in use or were fetched for use."""
        upto = max(self._next, self._front + 1)
        return frozenset(self._use.turns[:upto][~self._use.is_done(self._front)[:upto]].tolist())

    def _fits(self) -> bool:
        return self._use.live_bytes(self._front, self._next) <= self._limit_bytes

    def _wait_for_room(self, shard: int) -> bool:
        """Wait a little; whether the shard is not wanted any more."""
        with self._moved:
            self._moved.wait(_RETRY_S)
            turn = self._turn_of[shard]
            return self._closed or bool(self._use.is_done(self._front)[turn])
