"""Curves for `tensorboard --logdir`."""

from torch.utils.tensorboard import SummaryWriter

from trainer.events import Evaluated, Event
from trainer.sinks.place import Place
from trainer.sinks.scalars import scalars


class TensorBoard:
    """Scalars over the step; what a resumed run does again hides what it had done."""

    def __init__(self, place: Place) -> None:
        folder = place.folder / "tensorboard"
        self._writer = SummaryWriter(str(folder), purge_step=place.done_steps + 1)

    def __call__(self, event: Event) -> None:
        """Write the figures of `event`."""
        for name, value in scalars(event).items():
            self._writer.add_scalar(name, value, event.step)
        if isinstance(event, Evaluated):
            self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()
