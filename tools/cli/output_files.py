"""What a tool leaves: files, whose suffix says what they are, none overwritten unasked; or JSON."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import DataError, OutputError
from pipeline.storage.files import finish_part, part_path


def add_force_option(parser: argparse._ActionsContainer) -> None:
    """Add --force."""
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")


def add_json_option(parser: argparse._ActionsContainer) -> None:
    """Add --json."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, for other programs"
    )


def check_output(path: Path, *, suffixes: Sequence[str], force: bool) -> None:
    """See that `path` can be written, before the work begins.

    Args:
        path: of a file.
        suffixes: what its name may end in.
        force: whether a file that exists may be replaced.

    Raises:
        DataError: if the suffix promises something else, or the folder is not there.
        OutputError: if the file exists, or is a folder.
    """
    if path.suffix not in suffixes:
        raise DataError(
            f"{path}: would not be what its suffix says; name it {' or '.join(suffixes)}"
        )
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}: no such folder; make it, or name another file")
    refuse_existing(path, force=force)


def refuse_existing(path: Path, *, force: bool) -> None:
    """See that nothing is lost.

    Raises:
        OutputError: if `path` exists and may not be replaced.
    """
    if path.exists() and not force:
        raise OutputError(f"{path}: exists; name another output, or add --force to replace it")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file of any kind, atomically; its suffix is that of `path`."""
    # Writers of pictures and tables choose the format by the suffix, so it has to stay the last.
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(draft)
        finish_part(draft.replace(part_path(path)))
    finally:
        draft.unlink(missing_ok=True)
