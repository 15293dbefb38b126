"""The figures of an event by name: the same for every program that draws curves."""

import dataclasses

from trainer.events import Evaluated, Event, Step

_COUNTS = ("step", "epoch", "count", "data_wait_rank", "ema")
"""Numbers that are no figures."""


def scalars(event: Event) -> dict[str, float]:
    """Such as {"train/loss": 2.3}; a figure that is not known is left out, as is all that is said.

    Evaluations are under `eval/`, those of the averaged weights under `eval_ema/`.
    """
    if isinstance(event, Step):
        group = "train"
    elif isinstance(event, Evaluated):
        group = "eval_ema" if event.ema else "eval"
    else:
        return {}
    values = dataclasses.asdict(event)
    return {
        f"{group}/{name}": value
        for name, value in values.items()
        if isinstance(value, int | float) and name not in _COUNTS
    }
