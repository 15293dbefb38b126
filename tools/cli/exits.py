"""What goes wrong in a tool, turned into words and an exit code of `pipeline.exit_codes`."""

import errno
import sys
from collections.abc import Callable

from pipeline import command_line
from pipeline.errors import OutputError, StorageError, UnusableInputError, WorkerError
from pipeline.exit_codes import BAD_INPUT as BAD_INPUT
from pipeline.exit_codes import COMPLETE as COMPLETE
from pipeline.exit_codes import FAILED as FAILED
from pipeline.exit_codes import INTERRUPTED as INTERRUPTED
from pipeline.exit_codes import IO as IO
from pipeline.exit_codes import OUTPUT as OUTPUT
from tools.cli.progress import interruptible

TOLD = (OutputError, WorkerError, ValueError, StorageError, OSError, KeyboardInterrupt)
"""What users are told without a traceback; anything else is our own mistake."""
_STAYS = frozenset(
    (
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR),
        *(errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    )
)
"""What waiting does not mend, unlike a full disk."""


def explain(error: BaseException, *, go_on: str) -> tuple[int, str]:
    """Return the exit code for one of `TOLD`, and the message.

    Args:
        error: that ended the work.
        go_on: what to do after an interruption, or when a disk or service works again.

    Raises:
        BrokenPipeError: if it is only that nobody reads what is printed; `to_the_end` ends then.
    """
    if isinstance(error, BrokenPipeError) and command_line.reader_left():
        raise error
    if isinstance(error, OutputError):
        return OUTPUT, str(error)
    if isinstance(error, WorkerError):
        return FAILED, str(error)
    if isinstance(error, ValueError):  # of the data, or of the options
        return BAD_INPUT, str(error)
    if isinstance(error, StorageError):
        return IO, f"{error}; {go_on}"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        mend = "mend that, and " if error.errno in _STAYS else ""
        return IO, f"{where}{error.strerror or error}; {mend}{go_on}"
    assert isinstance(error, KeyboardInterrupt), "only `TOLD` are explained"
    return INTERRUPTED, f"interrupted; {go_on}"


def told(work: Callable[[], int], *, go_on: str = "run the same command again") -> int:
    """Do `work`; return its exit code, or that of what went wrong, once it is said.

    Args:
        work: returns an exit code.
        go_on: see `explain`.
    """

    def in_words() -> int:
        try:
            with interruptible():
                return work()
        except TOLD as failure:
            code, error = explain(failure, go_on=go_on)
            for problem in failure.problems if isinstance(failure, UnusableInputError) else ():
                print(f"  {problem}", file=sys.stderr)
            print(f"error: {error}", file=sys.stderr)
            return code

    return command_line.to_the_end(in_words)
