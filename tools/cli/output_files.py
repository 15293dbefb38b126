"""What a tool leaves: files, whose suffix says what they are, none overwritten unasked; or JSON."""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


def check_output(
    path: Path, *, suffixes: Sequence[str], force: bool, option: str = "--output"
) -> None:
    """See that `path` can be written, before the work begins.

    Args:
        path: of a file.
        suffixes: what its name may end in.
        force: whether a file that exists may be replaced.
        option: by which another path can be named.

    Raises:
        DataError: if the suffix promises something else, or the folder is not there.
        OutputError: if the file exists, or is a folder, or its folder cannot be written to.
    """
    if path.suffix not in suffixes:
        raise DataError(
            f"{path}: would not be what its suffix says; name it {' or '.join(suffixes)}"
        )
    with _reachable(path, option):
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file with {option}")
        _refuse_files_above(path, option)
        if not path.parent.is_dir():
            raise DataError(f"{path.parent}: no such folder; make it, or name another {option}")
        _refuse_locked(path.parent, option)
        refuse_existing(path, force=force, option=option)


def check_output_folder(path: Path, *, option: str = "--output") -> None:
    """See that `path` is a folder or can become one, before the work begins.

    Raises:
        OutputError: if it, or what it would lie in, is a file or cannot be written to.
    """
    with _reachable(path, option):
        _refuse_files_above(path / "inside", option)
        if not path.exists():
            _refuse_locked(next(p for p in path.absolute().parents if p.exists()), option)


def refuse_existing(path: Path, *, force: bool, option: str = "--output") -> None:
    """See that nothing is lost.

    Raises:
        OutputError: if `path` exists and may not be replaced.
    """
    if path.exists() and not force:
        raise OutputError(f"{path}: exists; name another {option}, or add --force to replace it")


@contextmanager
def _reachable(path: Path, option: str) -> Iterator[None]:
    """Say of which option it is that the system refuses even to look at `path`."""
    try:
        yield
    except OSError as error:  # such as a name that is too long
        raise OutputError(
            f"{path}: cannot be written: {error.strerror}; name another {option}"
        ) from error


def _refuse_files_above(path: Path, option: str) -> None:
    for above in path.parents:
        if above.exists() and not above.is_dir():
            raise OutputError(f"{above}: is a file, where a folder is to be; name another {option}")


def _refuse_locked(folder: Path, option: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: may not be written to; name another {option}")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file of any kind, atomically; its suffix is that of `path`."""
    # Writers of pictures and tables choose the format by the suffix, so it has to stay the last.
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(draft)
        finish_part(draft.replace(part_path(path)))
    finally:
        draft.unlink(missing_ok=True)
