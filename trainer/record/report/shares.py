"""Where the time of a run went, in shares that are the whole together."""

from typing import NamedTuple

from trainer.record.report.files import RunFiles


class Share(NamedTuple):
    """A part of the time, in seconds."""

    name: str
    seconds: float


def shares(run: RunFiles) -> list[Share]:
    """The parts of all the time up to the newest checkpoint; empty before the first.

    What is measured is subtracted from the whole, so the last part is what remains: starting,
    compiling, and what lies between the others.
    """
    tally = run.meta.get("tally", {})
    wall, train, wait = (float(tally.get(key, 0)) for key in ("wall_s", "train_s", "wait_s"))
    if wall <= 0:
        return []
    parts = [
        Share("computing", max(train - wait, 0.0)),
        Share("waiting for data", min(wait, train)),
    ]
    # Checkpoints of before these were measured have all of it in the rest.
    for key, name in (("eval_s", "evaluating"), ("save_s", "saving")):
        if key in tally:
            parts.append(Share(name, float(tally[key])))
    rest = "starting and the rest" if "eval_s" in tally else "evaluating, saving, starting"
    return [*parts, Share(rest, max(wall - sum(part.seconds for part in parts), 0.0))]


def percentages(parts: list[Share]) -> list[float]:
    """Whole tenths of a percent that sum to 100 exactly: the largest remainders are rounded up."""
    total = sum(part.seconds for part in parts)
    exact = [1000 * part.seconds / total for part in parts]
    whole = [int(value) for value in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: whole[i] - exact[i])
    for i in by_remainder[: 1000 - sum(whole)]:
        whole[i] += 1
    return [value / 10 for value in whole]
