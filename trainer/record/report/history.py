"""What happened to a run on its way, and on what machine."""

from trainer.record.report.files import RunFiles
from trainer.record.report.html import Cell, Html, definitions, element, section, table

MAX_BAD = 100
"""Images that could not be used that are shown."""


def history_section(run: RunFiles) -> Html:
    """Stops, resumes, skipped steps, notes, and images that could not be used."""
    rows: list[list[Cell]] = []
    for event in run.events:
        if event["event"] == "start" and event["step"]:
            rows.append([event["step"], "resumed", "a new process goes on"])
        elif event["event"] == "note":
            rows.append([event["step"], "note", event["text"]])
        elif event["event"] == "step" and event["loss"] is None:
            rows.append([event["step"], "skipped", "the loss or the gradients were not finite"])
    saves = len(run.of_kind("save"))
    note = f"Saved {saves:,} times." if saves else "Nothing is saved yet."
    if ended := run.exit.get("message"):
        note += f" The last process ended on {run.exit.get('time', '')}: {ended}."
    shown = table(("step", "what", "in words"), rows) if rows else None
    return section("What happened", shown, _bad(run), note=note)


def machine_section(run: RunFiles) -> Html | None:
    """What the run works with, in the words of its start, and versions."""
    pairs = [_line(line) for line in run.start.get("lines", [])]
    made = run.meta.get("environment", {})
    pairs += [(name.replace("_", " "), str(value)) for name, value in made.items()]
    if not pairs:
        return None
    return section("Machine and versions", definitions(pairs))


def _bad(run: RunFiles) -> Html | None:
    if not run.bad:
        return None
    keys = ("split", "epoch", "key", "file", "reason")
    rows: list[list[Cell]] = [[line.get(key) for key in keys] for line in run.bad[:MAX_BAD]]
    more = len(run.bad) - len(rows)
    head = f"{len(run.bad):,} unreadable, replaced by gray ones"
    left_out = f" (the first {len(rows)}; all are in bad_samples.jsonl)" if more else ""
    return element("div", element("h3", f"Images: {head}{left_out}"), table(keys, rows, tall=True))


def _line(line: str) -> tuple[str, str]:
    """Such as `model    dynamixer_s: ...`, or a warning."""
    for mark in ("  ", ": "):
        name, found, said = line.partition(mark)
        if found and " " not in name:
            return name, said.strip()
    name, _, said = line.partition(" ")
    return name, said.strip()
