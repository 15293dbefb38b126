"""trackio: curves in a local database, which `trackio show` draws ($TRACKIO_DIR says where).

A run is known by its name and project, so one that goes on is found again by them.
"""

import io
from contextlib import redirect_stdout

import trackio

from trainer.events import Event
from trainer.sinks.place import Place
from trainer.sinks.scalars import scalars


class Trackio:
    """A run of trackio."""

    def __init__(self, place: Place) -> None:
        with redirect_stdout(io.StringIO()):  # it greets at length
            self._run = trackio.init(
                project=place.project,
                name=place.name,
                config=place.recipe,
                resume="never" if place.is_new else "allow",
                embed=False,
                # The machine's figures are not the run's, and would need a thread.
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def __call__(self, event: Event) -> None:
        """Write the figures of `event`."""
        if figures := scalars(event):
            self._run.log(figures, step=event.step)

    def close(self) -> None:
        """Write what is left."""
        with redirect_stdout(io.StringIO()):
            trackio.finish()
