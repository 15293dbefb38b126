"""What all command lines share: their help, their completion, and how they end unheard.

A reader of the output that has had enough (`... | head`) ends a program here as any of Unix,
without a traceback. (So does Ctrl-C while modules load: `quiet_interrupt`.)
"""

import argparse
import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO

from pipeline import exit_codes


def new_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a program's docstring and the table of exit codes."""
    return argparse.ArgumentParser(
        description=doc,
        epilog=exit_codes.table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments, options among the positional ones too; or answer a shell's TAB.

    Nothing that takes long may be imported before: a shell asks at each key.
    """
    if "_ARGCOMPLETE" in os.environ:  # set by the shell's function, which waits for an answer
        import argcomplete

        argcomplete.autocomplete(parser)
    try:
        return parser.parse_intermixed_args(argv)
    except SystemExit as ended:  # the help was printed, or a mistake was told
        raise SystemExit(_brought_out(int(ended.code or 0))) from None


def to_the_end(work: Callable[[], int]) -> int:
    """Do `work` and bring out all that it prints; returns its exit code.

    That is `exit_codes.NO_READER` where nobody reads any more, and `exit_codes.IO` where what was
    printed is lost, as on a full disk.
    """
    try:
        code = work()
    except BrokenPipeError:
        if not reader_left():
            raise
        code = exit_codes.NO_READER
    except OSError as error:  # of a standard stream: `work` itself tells of its own files
        sys.stderr.write(f"error: {error}\n")
        code = exit_codes.IO
    except SystemExit as ended:  # how rich answers a broken pipe
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        code = exit_codes.NO_READER
    return _brought_out(code)


def reader_left() -> bool:
    """Whether what reads the output or the error stream of this process has gone."""
    return any(_is_unread(stream) for stream in (sys.stdout, sys.stderr))


def _is_unread(stream: IO[str] | None) -> bool:
    poll = select.poll()
    try:
        poll.register(stream.fileno() if stream else -1, 0)
    except (OSError, ValueError):  # it was closed, or is none of the system's
        return False
    return any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0))


def _brought_out(code: int) -> int:
    """Write what is still in memory; returns `code`, or where all else is well why that fails.

    Python does so itself when it ends, but with a warning and a code of its own.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or exit_codes.NO_READER
            _forget(stream)
        except OSError as error:
            code = code or exit_codes.IO
            _forget(stream)
            with suppress(OSError, AttributeError):
                sys.stderr.write(f"error: {stream.name}: {error.strerror}\n")
    return code


def _forget(stream: IO[str]) -> None:
    """Let what `stream` still holds go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
