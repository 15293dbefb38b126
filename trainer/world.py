"""Which processes make up the run: environment, process group, signals.

The same script runs under the deepspeed launcher, torchrun, srun and plain `python`: `bootstrap`
fills in what torch.distributed needs where the launcher has not.
"""

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar, cast

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """This process among all of them."""

    rank: int
    world_size: int
    local_rank: int
    local_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.rank == 0


def bootstrap() -> None:
    """Fill the environment that torch.distributed reads, for every launcher."""
    environment = os.environ
    # DeepSpeed builds its CPU collectives with the `ninja` that is installed beside Python.
    scripts = str(Path(sys.executable).parent)
    environment["PATH"] = scripts + os.pathsep + environment.get("PATH", os.defpath)
    if "TORCHELASTIC_RUN_ID" in environment and "MASTER_PORT" in environment:
        # With gloo, a restarted attempt that meets the store of the dead one hangs.
        attempt = int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))
        environment["TORCHELASTIC_USE_AGENT_STORE"] = "False"
        environment["MASTER_PORT"] = str(int(environment["MASTER_PORT"]) + 1 + attempt)
    if "RANK" in environment:
        return
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        environment.update(_slurm_world())
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    environment.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def _slurm_world() -> dict[str, str]:
    environment = os.environ
    job, restarts = int(environment["SLURM_JOB_ID"]), int(environment.get("SLURM_RESTART_COUNT", 0))
    address = environment.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_NTASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": environment.get("MASTER_ADDR", address),
        "MASTER_PORT": environment.get("MASTER_PORT", str(20000 + (job * 7 + restarts) % 20000)),
    }


def current() -> World:
    """The world after the process group stands."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    world_size = dist.get_world_size()
    local_size = int(
        os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or _ranks_here()
    )
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
    return World(
        rank=dist.get_rank(),
        world_size=world_size,
        local_rank=local_rank,
        local_size=local_size,
        device=device,
    )


def _ranks_here() -> int:
    hosts: list[object] = [None] * dist.get_world_size()
    dist.all_gather_object(hosts, socket.gethostname())
    return hosts.count(socket.gethostname())


def share_cores(world: World) -> None:
    """Give torch this rank's share of the machine's cores.

    torchrun sets one thread, the deepspeed launcher none (all cores for each rank).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(max(1, (cores or 1) // world.local_size))


def on_main(action: Callable[[], T]) -> T:
    """Run `action` on rank 0 and give every rank its value, or raise its error (collective)."""
    outcome: list[object] = [None, None]
    if dist.get_rank() == 0:
        try:
            outcome[0] = action()
        except (ValueError, RuntimeError, OSError) as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if isinstance(outcome[1], Exception):
        raise outcome[1]
    return cast(T, outcome[0])


class StopSignal:
    """Remembers that SIGTERM, SIGINT or SIGUSR1 came; a launcher may send it more than once.

    Attributes:
        received: whether one came.
        deadline: when to stop without one, in seconds of `time.monotonic`.
    """

    def __init__(self) -> None:
        self.received = False
        self.deadline = math.inf
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._remember)

    @property
    def due(self) -> bool:
        """Whether to save and stop."""
        return self.received or time.monotonic() >= self.deadline

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = True


class StopAgreement:
    """All ranks learn at the same step that one of them was told to stop.

    A launcher may signal the ranks seconds apart; a rank that left alone would leave the others
    waiting in a collective.
    """

    def __init__(self, signal_: StopSignal, device: torch.device) -> None:
        self._signal = signal_
        self._flag = torch.zeros(1, device=device)

    def poll(self) -> bool:
        """Whether all ranks stop now (collective).

        On a GPU the answer is that of the poll before, so that nobody waits for the step that
        has just been enqueued.
        """
        before = self._flag
        self._flag = torch.tensor([float(self._signal.due)], device=before.device)
        dist.all_reduce(self._flag)
        return bool((self._flag if before.device.type == "cpu" else before).item())
