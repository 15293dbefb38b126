"""Work begun ahead of its use and handed over in order, for everything that reads or decodes."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def _waited_for(_: object, future: Future[Result]) -> Result:
    return future.result()


def look_ahead(
    begun: Iterable[tuple[Item, Sequence[Future[Result]]]],
    count: int,
    result_of: Callable[[Item, Future[Result]], Result] = _waited_for,
) -> Generator[tuple[Item, list[Result]]]:
    """Yield each item with the results of its futures, while those of `count` more are in work.

    Args:
        begun: begins the work of an item when it is asked for it.
        count: how many items are kept begun; when this ends early, their futures are cancelled.
        result_of: waits for a future of an item.
    """
    waiting: deque[tuple[Item, Sequence[Future[Result]]]] = deque()

    def first_finished() -> tuple[Item, list[Result]]:
        item, futures = waiting.popleft()
        return item, [result_of(item, future) for future in futures]

    try:
        for pair in begun:
            waiting.append(pair)
            if len(waiting) > count:
                yield first_finished()
        while waiting:
            yield first_finished()
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()
