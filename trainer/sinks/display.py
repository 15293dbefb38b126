"""A run in a few lines that are drawn anew, for a terminal."""

from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.sinks.run_view import RunView

_BAR_WIDTH = 30


def drawn(view: RunView) -> Group:
    """Position with a bar, what is learned, how fast; a line that says nothing is left out."""
    head = Table.grid(padding=(0, 2))
    cells: list[Text | ProgressBar] = [
        Text(view.name, "bold"),
        Text("  ".join(view.position()), no_wrap=True),
    ]
    if view.total:
        cells.append(ProgressBar(total=view.total, completed=view.done, width=_BAR_WIDTH))
        cells.append(Text(f"{view.done / view.total:.0%}"))
    head.add_row(*cells)
    lines = ("  ".join(parts) for parts in (view.learning(), view.speed()))
    texts = [Text(line, no_wrap=True, overflow="ellipsis") for line in lines if line]
    if view.status:
        texts.append(Text(view.status, "yellow"))
    return Group(head, *texts)


class RunDisplay(Live):
    """Lines about a run as it is at each moment."""

    def __init__(self, look: Callable[[], RunView], console: Console) -> None:
        super().__init__(
            get_renderable=lambda: drawn(look()), console=console, refresh_per_second=2
        )

    def start(self, refresh: bool = False) -> None:
        """Start it, and leave the cursor visible: a process that is killed could not do that."""
        super().start(refresh)
        self.console.show_cursor(show=True)


def can_redraw(console: Console) -> bool:
    """Whether lines can be drawn anew there."""
    return console.is_terminal and not console.is_dumb_terminal
