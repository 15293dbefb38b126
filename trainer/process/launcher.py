"""Outlive a launcher that kills its ranks before they have saved.

The deepspeed launcher sends each rank SIGTERM and, half a minute later, SIGKILL, one rank after
the other, and a step and a save may take longer. It looks for what to kill among the descendants of
the processes that it started. So such a process stays there as a stand-in only, and the rank itself
runs in another one, which descends from it no more and has a session of its own. The stand-in
passes signals on and ends as the rank does. If it is killed, the rank saves and ends, as any rank
does whose launcher died.

Only the standard library is imported: processes are parted before anything heavy is loaded.
"""

import contextlib
import os
import select
import signal
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

PATIENCE_S = 30.0
"""Seconds that the deepspeed launcher waits between SIGTERM and SIGKILL."""
_KILLERS = ("CROSS_RANK", "MILLSTREAM_OUTLIVE")
"""Variables that say that there is such a launcher: deepspeed's own, and that of others."""
_DIED = 1
"""Exit code of a rank that ended without saying one."""


def kills_ranks() -> bool:
    """Whether a launcher started this process that kills it before it may have saved."""
    return any(name in os.environ for name in _KILLERS)


class StandIn:
    """The process that the launcher knows, as the rank sees it."""

    def __init__(self, pipe: int) -> None:
        """Take the end of the pipe that the rank writes to."""
        self._pipe = pipe

    def lives(self) -> bool:
        """Whether it is still there."""
        poll = select.poll()
        poll.register(self._pipe, 0)  # errors are told without being asked for
        return not poll.poll(0)

    def tell(self, code: int) -> None:
        """Say which exit code it shall end with, once this process has ended."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, str(code).encode())


def part(signals: Sequence[str]) -> StandIn:
    """Split into a stand-in, which never returns from here, and the rank, which does.

    Args:
        signals: names of those that the stand-in passes on; the rank takes them already.
    """
    numbers = [signal.Signals[name] for name in signals]
    read_end, write_end = os.pipe()
    # One that comes before the stand-in knows the rank waits for it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    if os.fork():
        os.close(write_end)
        os.wait()
        _stand_in(read_end, numbers)
    os.close(read_end)
    os.setsid()
    if os.fork():
        os._exit(0)  # the rank has lost its parent, and with it the launcher
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.write(write_end, f"{os.getpid()}\n".encode())
    return StandIn(write_end)


def _stand_in(read_end: int, signals: Sequence[signal.Signals]) -> NoReturn:
    with os.fdopen(read_end, "rb") as pipe:
        rank = int(pipe.readline())

        def pass_on(number: int, frame: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank, number)

        for number in signals:
            signal.signal(number, pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        code = pipe.read()  # ends when the rank does
    os._exit(int(code) if code else _DIED)


def long_stop(seconds: float) -> str:
    """Return a warning if to stop takes longer than the launcher waits; else an empty text."""
    if seconds <= PATIENCE_S or not kills_ranks():
        return ""
    return (
        f"told to stop, this run takes about {seconds:.0f} s to save, and its launcher ends after"
        f" {PATIENCE_S:.0f} s: the ranks go on without it, so keep the machine or the container"
        " until exit.json is there, or use torchrun with --shutdown-timeout"
    )
