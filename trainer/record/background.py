"""Work that goes on beside the training, one piece at a time: a checkpoint on its way to the disk.

Its result is fetched, or its error raised, in the thread that trains, so that nothing else of a run
needs to know of threads.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """At most one piece of work in flight, in a thread that the process waits for at its end."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        """`on_failure` is called in the thread when work has failed: it may ask for the error."""
        self._on_failure = on_failure
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._work: Future[T] | None = None

    def start(self, work: Callable[[], T]) -> None:
        """Begin `work`; what was begun before has been waited for."""
        assert self._work is None, "wait for what was begun before"
        self._work = self._pool.submit(work)
        self._work.add_done_callback(self._look_at)

    def poll(self) -> T | None:
        """The result, once, if work is done; an error stays for `wait`."""
        if self._work is None or not self._work.done() or self._work.exception() is not None:
            return None
        return self.wait()

    def wait(self) -> T | None:
        """The result of what is in flight, when it is done; None if nothing is.

        Raises:
            Exception: that of the work; once.
        """
        work, self._work = self._work, None
        return None if work is None else work.result()

    def settle(self) -> None:
        """Let what is in flight come to its end, and the thread too; its error stays unsaid."""
        if self._work is not None:
            wait([self._work])
        self._pool.shutdown()

    def _look_at(self, work: "Future[T]") -> None:
        if work.exception() is not None:
            self._on_failure()
