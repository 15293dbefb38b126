"""The sinks that a recipe asks for (`run.sinks`), none of which can end a run.

Their services may be away and their libraries wrong; the run's own log has it all in any case.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from trainer.events import Event, Note, Sink
from trainer.sinks.place import Place

_log = logging.getLogger(__name__)


class Closable(Protocol):
    """A sink that is closed at the end."""

    def __call__(self, event: Event) -> None:
        """Take `event`."""
        ...

    def close(self) -> None:
        """Give up what is held."""
        ...


class Guarded:
    """A sink that, once it fails, is left alone; a note says so."""

    def __init__(self, name: str, make: Callable[[], Closable], say: Sink, *, step: int) -> None:
        """Open it.

        Args:
            name: as the recipe has it.
            make: makes the sink.
            say: takes the note.
            step: optimizer steps done before.
        """
        self._name = name
        self._say = say
        self._sink: Closable | None = None
        try:
            self._sink = make()
        except Exception as error:  # noqa: BLE001 (libraries raise anything; the run matters more)
            self._tell(error, step)

    def __call__(self, event: Event) -> None:
        """Pass `event` on, unless the sink has failed before."""
        if self._sink is None:
            return
        try:
            self._sink(event)
        except Exception as error:  # noqa: BLE001 (as above)
            self._sink = None
            self._tell(error, event.step)

    def close(self) -> None:
        """Close the sink; the log may be closed by now, so a failure is only printed."""
        if self._sink is None:
            return
        try:
            self._sink.close()
        except Exception as error:  # noqa: BLE001 (as above)
            _log.warning("%s", self._words(error))

    def _tell(self, error: Exception, step: int) -> None:
        self._say(Note(step=step, text=f"{self._words(error)}; the run goes on without it"))

    def _words(self, error: Exception) -> str:
        return f"run.sinks: {self._name}: {str(error).strip() or type(error).__name__}"


def open_chosen(names: Sequence[str], place: Place, say: Sink) -> list[Guarded]:
    """Open the sinks called `names`; `say` takes notes about those that fail."""
    makers = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
    return [
        Guarded(name, partial(makers[name], place), say, step=place.done_steps) for name in names
    ]


# Their libraries take seconds to import, so only those chosen are.


def _tensorboard(place: Place) -> Closable:
    from trainer.sinks.tensorboard_sink import TensorBoard

    return TensorBoard(place)


def _wandb(place: Place) -> Closable:
    from trainer.sinks.wandb_sink import WandB

    return WandB(place)


def _trackio(place: Place) -> Closable:
    from trainer.sinks.trackio_sink import Trackio

    return Trackio(place)
