"""Raw results that an interrupted measurement left, to be gone on with."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import DataError

Report = dict[str, Any]

_CHANGING = ("date", "load")
"""What may differ of a machine between two parts of one measurement."""


def begun(output: Path, *, machine: Report, settings: Report) -> Report | None:
    """What an earlier run wrote to `output`; None where there is nothing.

    Raises:
        DataError: if it has results of another machine, or of other settings.
    """
    if not output.exists():
        return None
    report = json.loads(output.read_text(encoding="utf-8"))
    for then, now in ((report["machine"], machine), (report["settings"], settings)):
        for key in [key for key in now if key not in _CHANGING]:
            if then.get(key) != now[key]:
                raise DataError(
                    f"{output}: has results with {key} {then.get(key)!r}, and this is"
                    f" {now[key]!r}; delete it, or name another file"
                )
    return report
