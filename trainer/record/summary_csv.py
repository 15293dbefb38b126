"""`summary.csv`, the table that timm's training writes and other programs read: a row an epoch.

It is made of `metrics.jsonl` anew at each evaluation, so that a run that went on has each row once.
"""

import csv
import io
import json
from pathlib import Path

from pipeline.storage.files import write_atomically
from trainer.events import Evaluated, Event

COLUMNS = ("epoch", "train_loss", "eval_loss", "eval_top1", "eval_top5", "lr")


class SummaryCsv:
    """A sink that follows the one of `metrics`, which has written an event before it comes here."""

    def __init__(self, path: Path, metrics: Path) -> None:
        self._path = path
        self._metrics = metrics

    def __call__(self, event: Event) -> None:
        """Write the table, if `event` changes it.

        Raises:
            OSError: if the disk does not take it.
        """
        if isinstance(event, Evaluated):
            text = self._metrics.read_text(encoding="utf-8")
            write_atomically(self._path, table(text).encode())


def table(log: str) -> str:
    """The content of `summary.csv` for that of a `metrics.jsonl`.

    Loss is the mean over the logged steps of the epoch; accuracy that of the EMA weights where
    there are any, as timm has it.
    """
    losses: dict[int, list[float]] = {}
    rates: dict[int, float] = {}
    scores: dict[int, tuple[float | None, float, float]] = {}
    for line in log.splitlines():
        if not line.endswith("}"):  # torn
            continue
        event = json.loads(line)
        if event["event"] == "step":
            rates[event["epoch"]] = event["lr"]
            if event["loss"] is not None:
                losses.setdefault(event["epoch"], []).append(event["loss"])
        elif event["event"] == "eval":
            scores[event["epoch"]] = (event.get("loss"), event["top1"], event["top5"])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for epoch, score in scores.items():
        found = losses.get(epoch)
        loss = sum(found) / len(found) if found else ""
        writer.writerow((epoch, loss, *score, rates.get(epoch, "")))
    return file.getvalue()
