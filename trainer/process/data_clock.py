"""How long training waited for data, on the device where it happens."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from trainer.process.world import host_group


class DataClock:
    """Adds up the waits of this rank between two readings.

    On a GPU, a loader hands out images that are still being decoded, and the stream waits for
    them. So events in the stream are the clock there; they are read only when all has happened.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens in this context, on the host or in the current stream, is a wait."""
        if self._on_gpu:
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            yield
            after.record()
            self._events.append((before, after))
        else:
            began = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - began

    def take(self) -> list[float]:
        """Seconds that each rank waited since the last call (collective); waits for the GPU."""
        for before, after in self._events:
            after.synchronize()
            self._seconds += before.elapsed_time(after) / 1000
        mine = torch.tensor([self._seconds], dtype=torch.float64)
        self._events, self._seconds = [], 0.0
        waits = torch.zeros(dist.get_world_size(), dtype=torch.float64)
        dist.all_gather_into_tensor(waits, mine, group=host_group())
        return waits.tolist()
