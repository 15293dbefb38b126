"""The log of a run, read while it is written."""

import json
from pathlib import Path

from pipeline.errors import DataError
from trainer.sinks.run_view import Row


def read_log(run: Path) -> list[Row]:
    """The events in `metrics.jsonl` of a run's folder; none before the first.

    Raises:
        DataError: if there is no run, or a line of its log is damaged.
    """
    if not run.is_dir():
        others = sorted(path.parent.name for path in run.parent.glob("*/recipe.yaml"))
        known = f"; {run.parent} has {', '.join(others)}" if others else ""
        raise DataError(f"{run}: there is no such run{known}")
    if not (run / "recipe.yaml").exists():
        raise DataError(f"{run}: not the folder of a run: there is no recipe.yaml in it")
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    events = []
    for number, line in enumerate(lines[:-1], 1):
        if not line.endswith("}"):  # it was torn by a kill; the last one is being written
            continue
        try:
            event = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON ({error}); remove the line") from error
        if not (isinstance(event, dict) and {"event", "step"} <= event.keys()):
            raise DataError(f"{path}:{number}: not an event of a run; remove the line")
        events.append(event)
    return events
