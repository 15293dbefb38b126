"""What people see while a run trains: a few live lines on a terminal, plain lines elsewhere."""

import dataclasses
from collections.abc import Iterable

from rich.console import Console

from trainer.events import Evaluated, Event, Note, Started, Step
from trainer.sinks import display
from trainer.sinks.run_view import Row, RunView


class ConsoleProgress:
    """A sink; what is said once stands above the live lines."""

    def __init__(self, name: str, before: Iterable[Row] = ()) -> None:
        """Begin; `name` is the run's, `before` the events of its earlier processes."""
        self._console = Console(highlight=False)
        self._view = RunView(name, before)
        self._display: display.RunDisplay | None = None
        if display.can_redraw(self._console):
            self._display = display.RunDisplay(lambda: self._view, self._console)

    def __call__(self, event: Event) -> None:
        """Show `event`."""
        self._view.update({"event": event.event, **dataclasses.asdict(event)})
        if isinstance(event, Step):
            if self._display is None:
                self._say(self._view.step_line())
        elif isinstance(event, Evaluated):
            self._say(self._view.score_line())
        elif isinstance(event, Note):
            self._say(event.text)
        elif isinstance(event, Started):
            self._start(event)

    def _start(self, event: Started) -> None:
        for line in event.lines:
            self._say(line)
        if self._display is not None:
            self._display.start()
        elif event.compile != "none":
            self._say("compiling ... (the first step takes minutes)")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Give the terminal back; the last lines stay."""
        if self._display is not None:
            self._display.stop()
