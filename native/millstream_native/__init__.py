"""The compiled part of Millstream's host loader: what `_native.pyi` describes."""

import atexit
import weakref

from millstream_native import _native
from millstream_native._native import Operation, apply_operations, decode_crops

__all__ = ["Operation", "Pool", "apply_operations", "decode_crops"]


class Pool(_native.Pool):
    """Threads that share out the images of a batch; closed when the interpreter ends."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        _open_pools.add(self)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_open_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


@atexit.register
def _close_pools() -> None:
    for pool in list(_open_pools):
        pool.close()
