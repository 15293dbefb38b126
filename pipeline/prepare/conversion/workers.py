"""Long jobs, above all shards to be written, done by several processes of this machine."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.sharedctypes import SynchronizedArray
from typing import TypeVar

from pipeline.errors import WorkerError
from pipeline.prepare.writers.job import Progress
from pipeline.storage.locks import HeldFile, held_files

Job = TypeVar("Job")
Result = TypeVar("Result")

_POLL_S = 0.2


class _Stopped(Exception):  # noqa: N818 (not an error: the parent wants no more)
    pass


class _State:
    """What a worker shares with its parent."""

    counts: "SynchronizedArray[int]"
    """Images done, bytes done, whether to stop."""
    held: tuple[HeldFile, ...]
    """Open for as long as the worker lives."""


def map_in_processes(
    work: Callable[[Job, Progress], Result],
    jobs: Iterable[Job],
    progress: Progress,
    *,
    workers: int,
) -> Iterator[Result]:
    """Yield `work(job, progress)` for each job, in any order; with one worker, in this process.

    Args:
        work: a function of a module, to be found by name.
        jobs: can be pickled.
        progress: called in this process.
        workers: number of processes.

    Raises:
        WorkerError: if a worker process was killed.
    """
    if workers <= 1:
        yield from (work(job, progress) for job in jobs)
        return
    context = get_context("spawn")  # a fork would inherit locks that threads of ours hold
    counts = context.Array("q", 3)
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_initialize, initargs=(counts, held_files())
    )
    try:
        tasks = (partial(_work, work, job) for job in jobs)
        yield from _drain(pool, tasks, counts, progress, workers)
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process died, perhaps for lack of memory; run the same command again to go"
            " on, with fewer --workers if it happens again"
        ) from error
    finally:
        counts[2] = 1
        pool.shutdown(wait=True, cancel_futures=True)


def _drain(
    pool: ProcessPoolExecutor,
    tasks: Iterator[Callable[[], Result]],
    counts: "SynchronizedArray[int]",
    progress: Progress,
    workers: int,
) -> Iterator[Result]:
    # A job has the names of its images, so only a few are made ahead.
    pending: set[Future[Result]] = set()
    while True:
        with _interrupts_held():  # the first task starts the processes
            pending |= {pool.submit(task) for task in islice(tasks, 2 * workers - len(pending))}
        if not pending:
            return
        done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        with counts.get_lock():
            images, size_bytes = counts[0], counts[1]
            counts[0] = counts[1] = 0
        progress(images, size_bytes)
        for future in done:
            yield future.result()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait a moment; processes that start meanwhile never get it, modules loaded or not.

    It reaches every process of the terminal, and the parent tells workers when to stop.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _initialize(counts: "SynchronizedArray[int]", held: tuple[HeldFile, ...]) -> None:
    _State.counts, _State.held = counts, held
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave at once when the parent is killed: another run may be taking over."""
    parent = parent_process()
    assert parent is not None, "only runs in workers"
    parent.join()
    os._exit(1)


def _work(work: Callable[[Job, Progress], Result], job: Job) -> Result:
    return work(job, _count)


def _count(images: int, size_bytes: int) -> None:
    if _State.counts[2]:
        raise _Stopped
    with _State.counts.get_lock():
        _State.counts[0] += images
        _State.counts[1] += size_bytes
