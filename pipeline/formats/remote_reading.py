"""Several requests under way at once: what a conversion reads next is fetched ahead."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

from pipeline.formats.scan import ByteReader

REQUESTS_AT_ONCE = 16


@contextmanager
def reading_ahead(reader: ByteReader, locations: Sequence[str]) -> Iterator[ByteReader]:
    """Return a reader of `locations`, each once, in this order, which fetches some ahead."""
    ahead = _ReaderAhead(reader, locations)
    try:
        yield ahead
    finally:
        ahead.close()


class _ReaderAhead:
    def __init__(self, reader: ByteReader, locations: Sequence[str]) -> None:
        self._reader = reader
        self._rest = iter(locations)
        self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE)
        self._pending: deque[tuple[str, Future[bytes]]] = deque()
        self._submit(2 * REQUESTS_AT_ONCE)

    def read(self, location: str) -> bytes:
        expected, future = self._pending.popleft()
        assert location == expected, "locations are read in the order that was announced"
        self._submit(1)
        return future.result()

    def describe(self, location: str) -> str:
        return self._reader.describe(location)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, count: int) -> None:
        for location in islice(self._rest, count):
            self._pending.append((location, self._pool.submit(self._reader.read, location)))
