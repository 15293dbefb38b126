"""Exit codes of every program here: one table, which each `--help` and README.md show.

75 is sysexits.h's EX_TEMPFAIL, 73 its EX_CANTCREAT, 74 its EX_IOERR: schedulers know them.
"""

COMPLETE = 0
FAILED = 1
BAD_INPUT = 2
"""argparse's own."""
OUTPUT = 73
IO = 74
INTERRUPTED = 75
NO_READER = 141
"""What shells make of SIGPIPE."""

MEANINGS = {
    COMPLETE: "done; of `launch.py`: the run is complete, or `run.max_steps` was reached",
    BAD_INPUT: "the arguments, the recipe or the data cannot be used, or a check found damage;"
    " the message says why",
    OUTPUT: "the output exists, is in use, or holds something else",
    IO: "a file could not be written or read, such as on a full disk",
    INTERRUPTED: "told to stop, and what can be kept is kept: run the same command again"
    " (`run.stop_exit_code`)",
    NO_READER: "nobody reads the output any more, as when `head` has enough",
    FAILED: "anything else",
}


def table() -> str:
    """The table as text."""
    lines = (f"  {code:<4}{meaning.replace('`', '')}" for code, meaning in MEANINGS.items())
    return "\n".join(("exit codes:", *lines))
