"""What all command lines share: how `--help` looks, and how a shell completes them."""

import argparse
import os
from collections.abc import Sequence

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
    return parser.parse_intermixed_args(argv)
