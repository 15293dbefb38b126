"""Being told to stop: by a signal, by a launcher that died, or by a log that cannot be written.

Only the standard library is imported before it is needed, so that signals count from the start.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist


class StopSignal:
    """Remembers that a signal to stop came; a launcher may send it more than once.

    Attributes:
        failure: why this process itself wants all to stop, if it does.
        deadline: when to stop without a signal, in seconds of `time.monotonic`.
    """

    def __init__(self, names: Sequence[str] = ("SIGTERM", "SIGINT")) -> None:
        """Take the signals called `names`."""
        self.failure: OSError | None = None
        self.deadline = math.inf
        self._received = False
        self._launcher_lives = _parent_lives()
        for name in names:
            signal.signal(signal.Signals[name], self._remember)

    @property
    def received(self) -> bool:
        """Whether this process wants all to stop."""
        orphaned = not self._launcher_lives()
        is_late = time.monotonic() >= self.deadline
        return self._received or orphaned or is_late or self.failure is not None

    def watch_launcher(self, lives: Callable[[], bool]) -> None:
        """Stop when `lives` says that the launcher died."""
        self._launcher_lives = lives

    def fail(self, error: OSError) -> None:
        """Stop because of `error`; the first one counts."""
        self.failure = self.failure or error

    def ask(self) -> None:
        """Stop as if a signal had come; any thread may ask."""
        self._received = True

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._received = True


def _parent_lives() -> Callable[[], bool]:
    # A shell may end before its children; a launcher never does, unless it was killed.
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return lambda: True
    parent = os.getppid()
    return lambda: os.getppid() == parent


class StopAgreement:
    """All ranks learn at the same step that one of them was told to stop.

    A launcher may signal the ranks seconds apart; a rank that left alone would leave the others
    waiting in a collective.
    """

    def __init__(self, signal_: StopSignal, group: "dist.ProcessGroup") -> None:
        """Agree over `group`, which must be one of the host (gloo): no poll waits for a GPU."""
        self._signal = signal_
        self._group = group
        self._asked: tuple[dist.Work, torch.Tensor] | None = None

    @property
    def failure(self) -> OSError | None:
        """Why this rank itself wants to stop, if it does."""
        return self._signal.failure

    def ask(self) -> None:
        """Let all ranks stop at one of the next polls; any thread may ask."""
        self._signal.ask()

    def poll(self) -> bool:
        """Whether all ranks stop now (collective).

        The answer is that of the poll before, whose sum has come in the meantime: nobody waits.
        """
        before = self._asked
        self._asked = self._ask()
        return before is not None and self._answer(*before)

    def agree(self) -> bool:
        """Whether a rank was told to stop up to now (collective; waits for the slowest rank)."""
        return self._answer(*self._ask())

    def _ask(self) -> "tuple[dist.Work, torch.Tensor]":
        import torch
        import torch.distributed as dist

        flag = torch.tensor([float(self._signal.received)])
        work = dist.all_reduce(flag, group=self._group, async_op=True)
        assert work is not None
        return work, flag

    def _answer(self, work: "dist.Work", flag: "torch.Tensor") -> bool:
        work.wait()
        return bool(flag.item())
