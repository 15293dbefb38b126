"""A line that shows how far a long conversion is: images/s, MB/s and the time left."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ConversionProgress:
    """Progress over the bytes of a split, on the terminal's error stream."""

    def __init__(self, title: str, images: int, total_bytes: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[images]:,} of {task.fields[of]:,} images"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
        )
        self._task = self._progress.add_task(title, total=total_bytes, images=0, of=images, rate="")

    def __enter__(self) -> "ConversionProgress":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def advance(self, images: int, size_bytes: int) -> None:
        """Count images as done."""
        task = self._progress.tasks[0]
        done, elapsed = task.fields["images"] + images, task.elapsed or 0.0
        rate = ""
        if elapsed > 0:
            speed = (task.completed + size_bytes) / elapsed / 1e6
            rate = f"{done / elapsed:,.0f} images/s, {speed:,.0f} MB/s"
        self._progress.update(self._task, advance=size_bytes, images=done, rate=rate)
