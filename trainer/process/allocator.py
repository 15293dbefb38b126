"""Keep freed memory in the process: training on a CPU frees and takes the same blocks each step.

glibc gives large blocks to `mmap`: each is mapped, zeroed page by page and unmapped at each step,
which takes up to two thirds of the time of a small model. What is kept is what the process has had
in use at once, less what it has in use now, `TOP_PAD` and the holes in between: a step takes the
same again, so this grows no further.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Names of `mallopt(3)`."""
TOP_PAD = 256 << 20
"""Bytes by which the heap grows, at least."""


def keep_freed_memory() -> bool:
    """Take large blocks from the heap, and give none back; whether the allocator can do that.

    Only where memory comes from glibc; elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, TOP_PAD))
    return all(mallopt(name, value) == 1 for name, value in settings)


def give_back() -> None:
    """Return to the system what is kept of freed memory; the next step takes it anew."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
