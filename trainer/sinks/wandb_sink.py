"""Weights & Biases, or a folder that `wandb sync` sends there (WANDB_MODE=offline).

The run's id stands in `wandb.json` of its folder, so that a run that goes on is the same one there.
W&B wants steps to grow, and a run that was killed does some again: so `step` is a figure of its
own, over which the others are drawn.
"""

import json
import secrets

import wandb

from pipeline.storage.files import write_atomically
from trainer.events import Evaluated, Event, Step
from trainer.sinks.place import Place
from trainer.sinks.scalars import scalars

ID_FILE = "wandb.json"
PATIENCE_S = 20
"""For the service, and for a key that is typed in; the other ranks wait, and not for ever."""


class WandB:
    """A run of W&B."""

    def __init__(self, place: Place) -> None:
        self._run = wandb.init(
            project=place.project,
            name=place.name,
            id=_run_id(place),
            resume="allow",
            dir=str(place.folder),
            config=place.recipe,
            # What is printed stays on our terminal, which the display has to itself.
            settings=wandb.Settings(
                console="off", init_timeout=PATIENCE_S, login_timeout=PATIENCE_S, silent=True
            ),
        )
        self._run.define_metric("*", step_metric="step")

    def __call__(self, event: Event) -> None:
        """Send the figures of `event`."""
        if isinstance(event, Step | Evaluated):
            self._run.log({**scalars(event), "step": event.step, "epoch": event.epoch})

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


def _run_id(place: Place) -> str:
    """The id of the run that goes on; of one that begins, a new one, which is kept."""
    path = place.folder / ID_FILE
    if path.exists() and not place.is_new:
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])
    new = secrets.token_hex(4)
    write_atomically(path, json.dumps({"id": new}).encode() + b"\n")
    return new
