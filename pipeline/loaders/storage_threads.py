"""Threads that read from storage, which may not answer at all: nobody has to wait for them to end.

Python waits at its end for the threads of an executor; these are left behind.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")


class StorageThreads:
    """Works off what is submitted, in order."""

    def __init__(self, count: int) -> None:
        """Start `count` threads."""
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"read-ahead-{i}", daemon=True)
            for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Return the future result of `work`, or its error."""
        future: Future[Result] = Future()
        self._work.put(lambda: _fulfil(future, work))
        return future

    def close(self, *, wait: bool) -> None:
        """End the threads after what has been submitted and not cancelled; may be called again."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _fulfil(future: Future[Result], work: Callable[[], Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001  # whoever waits has to know, whatever it is
        future.set_exception(error)
