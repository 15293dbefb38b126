"""How far a long job is: images/s, MB/s and the time left, on the error stream.

A moving bar on a terminal; elsewhere, as in the log of a batch job, a line now and then.
"""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 30.0


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say that something goes on whose end is not known: listing a million files, perhaps."""
    if sys.stderr.isatty():
        with Console(file=sys.stderr).status(what):
            yield
    else:
        print(what, file=sys.stderr, flush=True)
        yield


@contextmanager
def importing() -> Iterator[None]:
    """Say on a terminal why nothing happens for some seconds: torch and its like are imported."""
    if sys.stderr.isatty():
        with Console(file=sys.stderr).status("importing torch"):
            yield
    else:
        yield


class ImageProgress:
    """Progress over some images; a context manager.

    Attributes:
        images: done so far.
        seconds: since the beginning.
    """

    def __init__(
        self, title: str, images: int, total_bytes: int | None = None, *, shown: bool = True
    ) -> None:
        """Begin.

        Args:
            title: what is done.
            images: how many there are.
            total_bytes: their size, by which the time left is told; None tells it by their number.
            shown: whether anything is printed.
        """
        self.images = 0
        self._title, self._all_images, self._shown = title, images, shown
        self._is_sized = total_bytes is not None
        self._total = images if total_bytes is None else total_bytes
        self._bytes = self._resumed_images = self._resumed_bytes = 0
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if shown and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=Console(file=sys.stderr),
            )
            self._task = self._bar.add_task(title, total=total_bytes, text="")

    def __enter__(self) -> "ImageProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started

    def advance(self, images: int, size_bytes: int | None = None) -> None:
        """Count images as done."""
        self.images = min(self.images + images, self._all_images)
        self._bytes += images if size_bytes is None else size_bytes
        if self._bar is not None:
            self._bar.update(self._task, completed=self._bytes, text=self._text())
        elif self._shown and time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._last_line = time.monotonic()
            done = self._bytes - self._resumed_bytes
            left = self.seconds * (self._total - self._bytes) / max(1, done)
            print(f"{self._title}: {self._text()}, {left:,.0f} s left", file=sys.stderr, flush=True)

    def resume(self, images: int, size_bytes: int) -> None:
        """Count images that an earlier run has done: they say nothing about the speed."""
        self._resumed_images += images
        self._resumed_bytes += size_bytes
        self.advance(images, size_bytes)
        if self._bar is not None:  # its estimate of the time left begins anew
            self._bar.reset(self._task, total=self._total, completed=self._bytes)

    def _text(self) -> str:
        seconds = max(self.seconds, 1e-3)
        images, size_bytes = self.images - self._resumed_images, self._bytes - self._resumed_bytes
        speed = f", {size_bytes / seconds / 1e6:,.0f} MB/s" if self._is_sized else ""
        done = f"{self.images:,} of {self._all_images:,} images"
        return f"{done}, {images / seconds:,.0f} images/s{speed}"


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt here when SIGTERM comes; only for the main thread."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
