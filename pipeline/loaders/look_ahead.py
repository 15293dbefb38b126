"""Work begun ahead of its use and handed over in order, for everything that reads or decodes."""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def look_ahead(
    begun: Iterable[tuple[Item, Sequence[Future[Result]]]], count: int
) -> Generator[tuple[Item, list[Result]]]:
    """Yield each item with the results of its futures, while those of `count` more are in work.

    Args:
        begun: begins the work of an item when it is asked for it.
        count: how many items are kept begun; when this ends early, their futures are cancelled.
    """
    waiting: deque[tuple[Item, Sequence[Future[Result]]]] = deque()
    try:
        for pair in begun:
            waiting.append(pair)
            if len(waiting) > count:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()


def _finished(item: Item, futures: Sequence[Future[Result]]) -> tuple[Item, list[Result]]:
    return item, [future.result() for future in futures]
