"""Imported by every program before all else: Ctrl-C while modules load ends it in a word.

So nothing that takes time may be imported here. The process ends by the signal itself, as any
program of Unix does, which shells show as 130; nothing has begun.
"""

import os
import sys
from types import TracebackType

_told_before = sys.excepthook


def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook`: the traceback, or for an interruption a word and the end."""
    if not issubclass(kind, KeyboardInterrupt):
        _told_before(kind, error, trace)
        return
    import signal

    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


sys.excepthook = tell
