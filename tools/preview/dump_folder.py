"""The folder of a dump, which holds nothing else: no data set, and no other dump."""

import re
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.storage.files import PART_SUFFIX
from tools.cli.output_files import check_output_folder, refuse_existing

DRAWS_NAME = "draws.jsonl"
_PIXELS = re.compile(r"\d+_\d+(_\d+)?\.png")
"""Sample, epoch and, where it comes several times in an epoch, which time."""


def check_dump_folder(folder: Path, *, force: bool) -> None:
    """See that a dump can be written, before the work begins.

    Raises:
        OutputError: if `folder` holds something else, or a dump that may not be replaced.
    """
    check_output_folder(folder, option="--dump")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if others := [name for name in names if not _is_of_a_dump(name)]:
        raise OutputError(
            f"{folder}: holds other things, such as {others[0]}; name a new folder with --dump"
        )
    refuse_existing(folder / DRAWS_NAME, force=force, option="--dump")


def _is_of_a_dump(name: str) -> bool:
    return name == DRAWS_NAME or bool(_PIXELS.fullmatch(name)) or name.endswith(PART_SUFFIX)
