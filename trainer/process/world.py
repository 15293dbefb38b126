"""Which processes make up the run: environment, process group, devices.

The same script runs under the deepspeed launcher, torchrun, srun, mpirun and plain `python`:
`bootstrap` fills in what torch.distributed needs where the launcher has not.
"""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.distributed as dist

T = TypeVar("T")


_DEFAULT_PORT = "29500"
_MPI_NAMES = (
    {  # Open MPI
        "RANK": "OMPI_COMM_WORLD_RANK",
        "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
        "LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
        "LOCAL_SIZE": "OMPI_COMM_WORLD_LOCAL_SIZE",
    },
    {  # PMI: MPICH and Intel MPI (Hydra)
        "RANK": "PMI_RANK",
        "WORLD_SIZE": "PMI_SIZE",
        "LOCAL_RANK": "MPI_LOCALRANKID",
        "LOCAL_SIZE": "MPI_LOCALNRANKS",
    },
)
"""How `mpirun` says to each process which one it is."""


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
    name_accelerator()
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
    for names in _MPI_NAMES:
        if int(environment.get(names["WORLD_SIZE"], "1")) > 1:
            environment.update(_mpi_world(names))
            return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    environment.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def name_accelerator() -> None:
    """Tell DeepSpeed, before it is imported, that there is no GPU: it would warn of its guess."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


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


def _mpi_world(names: dict[str, str]) -> dict[str, str]:
    """What torch.distributed reads, from what an `mpirun` says.

    Raises:
        ValueError: if there is no address for more than one machine, or no local rank.
    """
    environment = os.environ
    missing = [names[key] for key in ("RANK", "LOCAL_RANK") if names[key] not in environment]
    if missing:
        raise ValueError(
            f"{names['WORLD_SIZE']} is {environment[names['WORLD_SIZE']]}, but {missing[0]} is not"
            " set; set it, or RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
        )
    world = {key: environment[names[key]] for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if local_size := environment.get(names["LOCAL_SIZE"]):
        world["LOCAL_SIZE"] = local_size
    if "MASTER_ADDR" not in environment:
        if local_size != world["WORLD_SIZE"]:
            raise ValueError(
                f"MASTER_ADDR is not set, and {world['WORLD_SIZE']} ranks are on more than one"
                " machine; set it to the address of the first one (mpirun -x MASTER_ADDR=...)"
            )
        world["MASTER_ADDR"] = "127.0.0.1"
    world["MASTER_PORT"] = environment.get("MASTER_PORT", _DEFAULT_PORT)
    return world


def choose_device() -> torch.device:
    """This rank's device, made the current one: collectives of objects and DeepSpeed use that.

    Raises:
        ValueError: if there are more ranks than GPUs on this machine.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if count == 1:  # Slurm shows each task its own GPU only
        local_rank = 0
    if local_rank >= count:
        raise ValueError(
            f"local rank {local_rank} has no GPU: this machine shows {count}; start at most"
            f" {count} ranks on it"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


@dataclass(slots=True)
class _Host:
    """The gloo group for what the ranks tell each other outside the GPUs; None: not made yet."""

    group: dist.ProcessGroup | None = None


_host = _Host()


def make_host_group() -> None:
    """Make the group of `host_group` (collective); once, when the process group stands."""
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)  # all ranks are members
    _host.group = group


def host_group() -> dist.ProcessGroup:
    """All ranks, over gloo: nothing in it touches a GPU, or waits for one."""
    assert _host.group is not None, "init_process_group makes it"
    return _host.group


def current(device: torch.device) -> World:
    """The world after the process group stands, for this rank's `device`."""
    local_size = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE")
    return World(
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        local_size=int(local_size or _ranks_here()),
        device=device,
    )


def _ranks_here() -> int:
    hosts: list[object] = [None] * dist.get_world_size()
    dist.all_gather_object(hosts, socket.gethostname(), group=host_group())
    return hosts.count(socket.gethostname())


def share_cores(world: World) -> None:
    """Give torch this rank's share of the machine's cores.

    torchrun sets one thread, the deepspeed launcher none (all cores for each rank).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(max(1, (cores or 1) // world.local_size))


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank is not there any more."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def on_main(action: Callable[[], T]) -> T:
    """Run `action` on rank 0 and give every rank its value, or raise its error (collective)."""
    outcome: list[object] = [None, None]
    if dist.get_rank() == 0:
        try:
            outcome[0] = action()
        except (ValueError, RuntimeError, OSError) as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0, group=host_group())
    if isinstance(outcome[1], Exception):
        raise outcome[1]
    return cast(T, outcome[0])
