"""Measure one loader in this process, and print what was measured as JSON.

    python -m benchmarks.loader_peers.measure PEER DATA_SETS THREADS [--memory]

The first epoch warms up (workers, code that is compiled, the page cache). CPU time is that of this
process, of all its children and of their children. With --memory, the peer goes through 200 epochs,
and the line has the memory after every twentieth.
"""

import argparse
import json
import os
import time
from pathlib import Path

import psutil

from benchmarks.loader_peers.peer import DataSets, Epoch, UnavailableError
from benchmarks.loader_peers.peers import NAMES, peer

TIMED_EPOCHS = 2
MEMORY_EPOCHS = 200
MEMORY_EVERY = 20


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=NAMES)
    parser.add_argument("data_sets", type=Path)
    parser.add_argument("threads", type=int)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    try:
        epoch = peer(arguments.peer)(DataSets(arguments.data_sets), arguments.threads)
    except UnavailableError as error:
        print(json.dumps({"unavailable": str(error)}))
        return
    measured = memory_over_epochs(epoch) if arguments.memory else speed(epoch)
    print(json.dumps(measured), flush=True)
    os._exit(0)  # some peers hang in their threads' end


def speed(epoch: Epoch) -> dict[str, float]:
    """Time `TIMED_EPOCHS` epochs after one that warms up."""
    for _ in epoch(0):
        pass
    images, cpu, wall = 0, cpu_seconds(), time.perf_counter()
    for number in range(1, 1 + TIMED_EPOCHS):
        images += sum(epoch(number))
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    return {"images": images, "cpu_s": round(cpu, 3), "wall_s": round(wall, 3)}


def cpu_seconds() -> float:
    """CPU time of this process and of all below it so far."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    reaped = times[0].children_user + times[0].children_system
    return reaped + sum(time.user + time.system for time in times)


def memory_over_epochs(epoch: Epoch) -> dict[str, list[float]]:
    """Return the resident memory in MB that belongs to no file, after every 20th epoch."""
    megabytes = []
    for number in range(MEMORY_EPOCHS):
        for _ in epoch(number):
            pass
        if (number + 1) % MEMORY_EVERY == 0:
            used = psutil.Process().memory_info()
            # Pages of mapped shards are counted as shared, and the system takes them back.
            megabytes.append(round((used.rss - used.shared) / 1e6, 1))
    return {"megabytes": megabytes}


if __name__ == "__main__":
    main()
