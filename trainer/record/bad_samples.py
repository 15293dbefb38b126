"""The list of images that gray ones stood in for: `bad_samples.jsonl` in the folder of a run.

Each rank appends to a file of its own, at once, so that nothing is lost with a run that fails; the
first rank's is `bad_samples.jsonl`, that of rank 3 `bad_samples.3.jsonl`.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import, and the list is read without
    from pipeline.batch import BadSample

NAME = "bad_samples"


class BadSampleList:
    """What one rank has met; a line is not written twice, also when an epoch is done again."""

    def __init__(self, folder: Path, *, rank: int) -> None:
        """Go on with what earlier processes of the run have listed in `folder`."""
        self._path = folder / (f"{NAME}.{rank}.jsonl" if rank else f"{NAME}.jsonl")
        self._known = {_identity(line) for line in listed(folder)}

    def add(self, split: str, bad: "BadSample") -> None:
        """Append a line.

        Raises:
            OSError: if the disk does not take it.
        """
        line = {"split": split, **bad._asdict()}
        if _identity(line) in self._known:
            return
        self._known.add(_identity(line))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            # A kill may have torn the last line of the file.
            torn = file.tell() > 0 and _last_byte(self._path) != b"\n"
            file.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")


def listed(folder: Path) -> list[dict[str, str | int]]:
    """The lines of all ranks, whole ones only."""
    lines = [
        line
        for path in sorted(folder.glob(f"{NAME}*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def _identity(line: dict[str, str | int]) -> tuple[str | int, ...]:
    return line["split"], line["epoch"], line["sample"]


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
