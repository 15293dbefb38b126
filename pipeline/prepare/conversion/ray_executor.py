"""Shards written by the nodes of a Ray cluster; the only file that imports Ray.

The plan is the same wherever a shard is written, so the result is that of one machine. Nodes need
the Python packages, not this program: its package travels with the job. Output and input lie on a
file system that all nodes share, or at a URL.
"""

import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import ray
from ray.exceptions import RayError, RayTaskError

import pipeline
from pipeline.errors import OutputError, Problem, WorkerError
from pipeline.formats.shard_folder import STATE_FOLDER, record_path
from pipeline.prepare.writers.job import Progress, ShardJob
from pipeline.prepare.writers.shard_record import make_empty
from pipeline.prepare.writers.shard_writer import write_shard
from pipeline.storage.files import write_atomically

_RETRIES = 3
"""Of a shard whose node or process died."""
_POLL_S = 1.0
_CONNECT_S = 15.0
_VISIBLE_S = 90.0
"""NFS may take a minute to see a file that another machine has written."""


class _Done(NamedTuple):
    """What a node reports of a shard.

    Attributes:
        problems: images that cannot be used.
        node: its name, for messages.
        record: what is known of a shard that was stored at a URL; empty if it is in a folder.
        size_bytes: of that shard.
    """

    problems: tuple[Problem, ...]
    node: str
    record: bytes
    size_bytes: int


def run_on_ray(
    jobs: Iterable[ShardJob], progress: Progress, *, at_once: int = 0
) -> Iterator[tuple[Problem, ...]]:
    """Write the shards of `jobs` on the cluster at $RAY_ADDRESS, or the one of this machine.

    Args:
        jobs: whose readers know absolute paths.
        progress: called when a shard is done.
        at_once: shards that are being written at a time; 0: one for each core of the cluster.

    Raises:
        WorkerError: if there is no cluster, or nodes die again and again.
        OutputError: if what a node wrote cannot be seen here.
    """
    with _connected():
        at_once = at_once or max(1, int(ray.cluster_resources().get("CPU", 1)))
        write = ray.remote(num_cpus=1, max_retries=_RETRIES)(_write)
        remaining = iter(jobs)
        pending: dict[ray.ObjectRef, ShardJob] = {}
        try:
            while True:
                for job in islice(remaining, at_once - len(pending)):
                    # Nodes have other working directories.
                    sent = replace(job, folder=job.folder.absolute())
                    pending[write.remote(sent)] = job
                if not pending:
                    return
                ready, _ = ray.wait(list(pending), timeout=_POLL_S)
                for reference in ready:
                    yield _accept(reference, pending.pop(reference), progress)
        finally:
            for reference in pending:
                ray.cancel(reference)


@contextmanager
def _connected() -> Iterator[None]:
    """Be connected to the cluster; an existing connection is used and kept."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        _reach(address)
        ray.init(
            address=address,
            runtime_env={"py_modules": [str(Path(pipeline.__file__).parent)]},
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (OSError, RayError, ValueError) as error:
        raise WorkerError(
            f"no Ray cluster at {address!r} ({error}); start one with 'ray start --head', or set"
            " RAY_ADDRESS"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """See that something listens at HOST:PORT. Ray would try for minutes and then end the process.

    Raises:
        OSError: if nothing does.
    """
    host, _, port = address.rpartition(":")
    if host and "/" not in address:
        socket.create_connection((host, int(port)), _CONNECT_S).close()


def _write(job: ShardJob) -> _Done:
    """Write a shard, on some node."""
    (job.folder / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    problems = write_shard(job, _ignore)
    node, shard = os.uname().nodename, job.folder / job.name
    if job.remote is None or not shard.exists():
        return _Done(problems, node, b"", 0)
    done = _Done(problems, node, record_path(shard).read_bytes(), shard.stat().st_size)
    for path in (shard, shard.with_suffix(".idx"), record_path(shard)):
        path.unlink()  # all is stored, and what is known of it goes to the driver
    return done


def _ignore(images: int, size_bytes: int) -> None:
    """Progress is counted when a shard is done."""


def _accept(reference: ray.ObjectRef, job: ShardJob, progress: Progress) -> tuple[Problem, ...]:
    try:
        done: _Done = ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise WorkerError(f"{job.name}: {error}; run the same command again to go on") from error
    shard = job.folder / job.name
    if done.record:
        write_atomically(record_path(shard), done.record)
        make_empty(shard, done.size_bytes)
    elif job.remote is None and not (done.problems and job.config.on_error == "fail"):
        _await_visible(shard, done.node)
    progress(len(job.keys), int(job.sizes.sum()))
    return done.problems


def _await_visible(shard: Path, node: str) -> None:
    deadline = time.monotonic() + _VISIBLE_S
    while not (shard.exists() and record_path(shard).exists()):
        if time.monotonic() > deadline:
            raise OutputError(
                f"{shard}: written by node {node}, but not to be seen here; --output must be a"
                " folder that all nodes share, or a URL"
            )
        time.sleep(_POLL_S)
