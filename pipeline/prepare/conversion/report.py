"""What was unusual in the input and what became of it: a summary for the manifest, and all of it.

`report.tsv` has a line for each image that was left out, converted, or kept although it is not a
plain JPEG: action, reason, file or key, details. The manifest counts them and names the first.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import Problem
from pipeline.formats.shard_folder import REPORT_NAME
from pipeline.images.usable import NORMALIZABLE, ODDITY_TEXTS, Oddity
from pipeline.storage.files import finish_part, part_path

_NAMED = 1000


class Finding(TypedDict):
    """A kind of unusual images: what, what was done, how many, and the first of them."""

    what: str
    action: str
    images: int
    keys: list[str]


def summarize(keys: pa.ChunkedArray, notes: NDArray[np.int32]) -> list[Finding]:
    """Return what is unusual about the images that were stored."""
    findings = []
    for note, what in ODDITY_TEXTS.items():
        for action in ("kept", "converted"):
            found = np.flatnonzero(_matches(notes, note, action))
            if len(found):
                named = keys.take(pa.array(found[:_NAMED])).to_pylist()
                findings.append(Finding(what=what, action=action, images=len(found), keys=named))
    return findings


def write_report(
    folder: Path,
    *,
    keys: pa.ChunkedArray,
    notes: NDArray[np.int32],
    problems: Sequence[Problem],
) -> bool:
    """Write the report, if there is anything to say; returns whether there was."""
    if not problems and not notes.any():
        return False
    part = part_path(folder / REPORT_NAME)
    with part.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("action\treason\timage\tdetail\n")
        for problem in problems:
            file.write(_line("left out", problem.kind, problem.where, problem.detail))
        file.writelines(_note_lines(keys, notes))
    finish_part(part)
    return True


def _note_lines(keys: pa.ChunkedArray, notes: NDArray[np.int32]) -> Iterator[str]:
    for note, what in ODDITY_TEXTS.items():
        for action in ("kept", "converted"):
            for row in np.flatnonzero(_matches(notes, note, action)):
                yield _line(action, what, keys[int(row)].as_py(), "")


def _matches(notes: NDArray[np.int32], note: Oddity, action: str) -> NDArray[np.bool_]:
    """Rows that have `note` and of which it was taken away, or kept."""
    converted = (notes & Oddity.CONVERTED != 0) & bool(note & NORMALIZABLE)
    return (notes & note != 0) & (converted == (action == "converted"))


def _line(*cells: str) -> str:
    clean = (" ".join(cell.split("\t")).replace("\n", " ") for cell in cells)
    return "\t".join(clean) + "\n"
