"""Counts where the host would wait for a GPU, on a machine without one.

Method. Tensors are told apart by where a GPU run would keep them: weights and batches are marked,
and so is every result of an operation on something marked. All of them lie on the CPU, so all is
computed as always. A wait is

- an operation whose result, or the size of it, the host needs: `item`, `bool`, `float` of a marked
  tensor, `nonzero`, `masked_select`, `unique`, `equal`, an index of booleans;
- a copy of a marked tensor to the host (`cpu`, `numpy`, `tolist`), and one from ordinary memory to
  the device (`to`, `torch.tensor` with a device);
- what DeepSpeed asks of its accelerator: `synchronize`, of the device, a stream or an event. It is
  told that this accelerator runs behind the host's back, as a GPU does.

Streams that wait for streams, and collectives on marked tensors, are no waits: nccl enqueues them.
What torch does inside one operation, such as growing the allocator's memory, is not seen.
"""

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
ASKS = {
    _aten._local_scalar_dense,
    _aten.nonzero,
    _aten.masked_select,
    _aten._unique2,
    _aten.unique_consecutive,
    _aten.unique_dim,
    _aten.equal,
    _aten.is_nonzero,
}
INDEXES = {_aten.index, _aten.index_put, _aten.index_put_}


class HostWaits(TorchDispatchMode):
    """Notes each wait that happens inside it.

    Attributes:
        seen: where in the code each one was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._marked: dict[int, StorageWeakRef] = {}

    def mark(self, *tensors: Tensor) -> None:
        """Let `tensors` be on the device."""
        for tensor in tensors:
            reference = StorageWeakRef(tensor.untyped_storage())  # its address is not used again
            self._marked[reference.cdata] = reference

    def is_marked(self, tensor: Tensor) -> bool:
        """Whether it is on the device."""
        return tensor.untyped_storage()._cdata in self._marked

    def wait(self, what: str) -> None:
        """Note a wait."""
        frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename][-4:-1]
        where = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in reversed(frames))
        self.seen.append(f"{what} at {where}")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        """Run the operation; note a wait, and mark what comes of marked tensors."""
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        is_on_device = any(self.is_marked(t) for t in tensors)
        kind = func.overloadpacket
        if is_on_device and kind in ASKS:
            self.wait(str(func))
        if is_on_device and kind in INDEXES and _has_booleans(args[1]):
            self.wait(f"{func} by booleans")
        results = func(*args, **kwargs)
        if is_on_device:
            self.mark(*(t for t in tree_leaves(results) if isinstance(t, Tensor)))
        return results

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Note waits in this context."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self)
            for name in ("cpu", "numpy", "tolist"):
                stack.enter_context(mock.patch.object(Tensor, name, self._fetching(name)))
            stack.enter_context(mock.patch.object(Tensor, "to", self._moving(Tensor.to)))
            stack.enter_context(mock.patch.object(torch, "tensor", self._making(torch.tensor)))
            yield

    def _fetching(self, name: str) -> Any:
        original = getattr(Tensor, name)

        def fetch(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.is_marked(tensor):
                self.wait(name)
            return original(tensor, *args, **kwargs)

        return fetch

    def _moving(self, original: Any) -> Any:
        def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            target = kwargs.get("device", args[0] if args else None)
            names_device = isinstance(target, (str, torch.device))
            is_pinned_copy = kwargs.get("non_blocking", False)
            if names_device and not self.is_marked(tensor):
                if not is_pinned_copy:
                    self.wait("to the device")
                self.mark(tensor)
            return original(tensor, *args, **kwargs)

        return to

    def _making(self, original: Any) -> Any:
        def tensor(*args: Any, **kwargs: Any) -> Tensor:
            made = original(*args, **kwargs)
            if kwargs.get("device") not in (None, "cpu"):
                self.wait("a tensor of the host's numbers")
                self.mark(made)
            return made

        return tensor


def _has_booleans(indices: Any) -> bool:
    return any(t.dtype == torch.bool for t in tree_leaves(indices) if isinstance(t, Tensor))


class _Stream:
    """What DeepSpeed uses of a GPU's streams and events; `waits` is told of waits of the host."""

    waits: HostWaits

    def __init__(self, **_: Any) -> None:
        pass

    def synchronize(self) -> None:
        self.waits.wait("a stream's or an event's synchronize")

    def wait_stream(self, stream: object) -> None:
        pass

    def wait_event(self, event: object) -> None:
        pass

    def record(self, stream: object = None) -> None:
        pass

    def wait(self, stream: object = None) -> None:
        pass


@contextlib.contextmanager
def accelerator_behind_the_back(waits: HostWaits) -> Iterator[None]:
    """Let DeepSpeed believe that its accelerator is not synchronous, as it believes of GPUs."""
    from deepspeed.accelerator import get_accelerator

    kind = type(get_accelerator())
    _Stream.waits = waits
    stream = _Stream()
    changes = {
        "is_synchronized_device": lambda _: False,
        "synchronize": lambda *_: waits.wait("the accelerator's synchronize"),
        "Stream": property(lambda _: _Stream),
        "Event": property(lambda _: _Stream),
        "stream": lambda *_: contextlib.nullcontext(),
        "current_stream": lambda *_: stream,
        "default_stream": lambda *_: stream,
    }
    with contextlib.ExitStack() as stack:
        for name, value in changes.items():
            stack.enter_context(mock.patch.object(kind, name, value))
        stack.enter_context(mock.patch.object(Tensor, "record_stream", return_value=None))
        yield
