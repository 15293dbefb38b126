"""How much memory this process may still take, and how much something takes (Linux, not a GPU's).

A process that takes too much is mostly not refused but killed, so on a CPU nothing is tried that is
not known to fit: the least of all limits is asked for, and peaks are measured on small batches.
"""

import math
import resource
from collections.abc import Callable
from pathlib import Path

import psutil

from trainer.process.allocator import TOP_PAD, give_back

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_RESERVED_BYTES = 2 * TOP_PAD
"""What the allocator has asked for and nobody uses: a process's own limits count it."""


def available_bytes(*, local_size: int) -> int:
    """What this process may still take, one of `local_size` that share the machine alike.

    The least of what the machine has left, what the process's control groups (a container, a Slurm
    job) leave, and the process's own limits (`ulimit -v`, `ulimit -d`).
    """
    shared = min(psutil.virtual_memory().available, cgroup_bytes(_CGROUPS, _OWN_CGROUP))
    return max(0, int(min(shared / local_size, _limit_bytes())))


def cgroup_bytes(root: Path, own: Path) -> float:
    """What the control groups that `own` names, mounted at `root`, leave; infinity if not limited.

    Both versions of them; a page cache that the kernel would drop counts as free.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return math.inf
    left = math.inf
    for line in lines:
        _, kinds, name = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        base, limit, usage, cache = (
            (
                root / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
            if kinds
            else (root, "memory.max", "memory.current", "inactive_file")
        )
        folder = base / name.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(base):
                left = min(left, _left_in(each, limit, usage, cache))
    return left


def _left_in(folder: Path, limit: str, usage: str, cache: str) -> float:
    try:
        most = float((folder / limit).read_text().strip().replace("max", "inf"))
        used = float((folder / usage).read_text())
        stats = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return math.inf
    return most - used + float(stats.get(cache, 0))


def _limit_bytes() -> float:
    used = psutil.Process().memory_info()
    left = math.inf
    for kind, taken in ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, used.data)):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            left = min(left, soft - taken - _RESERVED_BYTES)
    return left


def peak_bytes(action: Callable[[], object]) -> int:
    """How far this process's memory rises above what it has now while `action` runs.

    Memory that was freed before, and that the allocator has kept, does not count as what it has.

    Raises:
        ValueError: where the system does not tell.
    """
    give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        before = _status_bytes("VmRSS")
        action()
        return max(0, _status_bytes("VmHWM") - before)
    except OSError as error:
        raise ValueError(
            f"batch.per_gpu: auto cannot measure memory on this system ({error}); give a number"
        ) from error


def _status_bytes(name: str) -> int:
    """A line of /proc/self/status."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(text.partition(f"{name}:")[2].split()[0])
