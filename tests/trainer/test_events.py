"""The event log of a run that was stopped: each line once."""

import json
from pathlib import Path

from trainer.events import Evaluated, Event, Jsonl, Note, Saved, Step


def step_event(step: int) -> Step:
    return Step(
        step=step, epoch=0, loss=1.0, lr=0.1, images_per_s=1.0, data_wait_s=0.0, grad_norm=1.0
    )


def evaluated(step: int) -> Evaluated:
    return Evaluated(step=step, epoch=0, top1=1.0, top5=2.0, count=3, ema=False)


def write_log(path: Path, events: list[Event], resume_step: int) -> list[tuple[str, int]]:
    sink = Jsonl(path, resume_step=resume_step)
    for event in events:
        sink(event)
    sink.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["event"], row["step"]) for row in rows]


def test_a_resumed_log_drops_what_happens_again_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    saved = Saved(step=2, epoch=0, path="x")
    after = Note(step=2, text="after the save")
    write_log(path, [step_event(1), step_event(2), saved, after, step_event(3)], 0)
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    assert write_log(path, [step_event(3)], 2) == [
        ("step", 1),
        ("step", 2),
        ("save", 2),
        ("step", 3),
    ]


def test_a_log_whose_save_line_was_lost_keeps_all_up_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [step_event(1), step_event(2), evaluated(2)], 0)
    assert write_log(path, [], 2) == [("step", 1), ("step", 2), ("eval", 2)]
