"""A run and its resume on all sinks, and what they left, as JSON; a process of its own, since the
libraries start helpers of theirs.

Arguments: the folder of the run. TRACKIO_DIR and WANDB_MODE=offline are set by the caller.
"""

import json
import os
import sqlite3
import struct
import sys
from pathlib import Path

from wandb.proto import wandb_internal_pb2

from trainer.events import Evaluated, Step
from trainer.sinks.chosen import open_chosen
from trainer.sinks.place import Place

BLOCK = 32768
HEADER = struct.Struct("<IHB")  # CRC, length, type, as in LevelDB's logs


def step(number):
    return Step(
        step=number,
        epoch=0,
        loss=1 / number,
        lr=0.1,
        images_per_s=3.0,
        data_wait_s=0.0,
        data_wait_rank=0,
        grad_norm=None,
    )


def train(folder, steps, *, is_new):
    """Log `steps` on every sink, as a process of the run does; returns the notes."""
    notes = []
    place = Place(
        folder=folder,
        project="tests",
        done_steps=steps[0] - 1,
        is_new=is_new,
        recipe={"optim": {"lr": 0.5}},
    )
    sinks = open_chosen(["tensorboard", "wandb", "trackio"], place, notes.append)
    score = Evaluated(step=steps[-1], epoch=0, top1=50.0, top5=90.0, count=3, ema=True, loss=0.5)
    for event in (*map(step, steps), score):
        for sink in sinks:
            sink(event)
    for sink in sinks:
        sink.close()
    return [note.text for note in notes]


def records(path):
    """The records in a .wandb file: protocol buffers in a log of blocks."""
    content, at, pieces = path.read_bytes(), 7, b""
    while at + HEADER.size <= len(content):
        if BLOCK - at % BLOCK < HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(content, at)
        at += HEADER.size
        pieces += content[at : at + length]
        at += length
        if kind in (1, 4):  # whole, or last
            yield wandb_internal_pb2.Record.FromString(pieces)
            pieces = b""


def wandb_runs(folder):
    """Of each process: the run's id and what was logged."""
    runs = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=os.path.getmtime):
        found = {"id": "", "project": "", "config": {}, "history": []}
        for record in records(path):
            if record.HasField("run"):
                found |= {"id": record.run.run_id, "project": record.run.project}
                for item in record.run.config.update:
                    found["config"][item.key] = json.loads(item.value_json)
            if record.HasField("history"):
                items = record.history.item
                row = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}
                found["history"].append({k: v for k, v in row.items() if k[0] != "_"})
        runs.append(found)
    return runs


def trackio_rows(folder):
    """Id of the run, step and figures, in the order of writing."""
    with sqlite3.connect(folder / "tests.db") as base:
        rows = base.execute("select run_id, step, metrics from metrics order by id").fetchall()
    return [(run, number, json.loads(figures)) for run, number, figures in rows]


def main(folder):
    folder.mkdir()
    notes = train(folder, (1, 2, 3), is_new=True) + train(folder, (3, 4), is_new=False)
    left = {
        "notes": notes,
        "wandb": wandb_runs(folder),
        "trackio": trackio_rows(Path(os.environ["TRACKIO_DIR"])),
    }
    sys.stdout.write(json.dumps(left) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
