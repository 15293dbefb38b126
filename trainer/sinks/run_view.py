"""What is known of a run from its events so far: the same here, where it trains, and from its log.

Events come as rows, which is what `metrics.jsonl` has, so that a reader needs nothing that trains.
"""

from collections import deque
from collections.abc import Iterable, Mapping

from pipeline.words import counted, duration
from trainer.events import MIN_CLASSES_TOP5

Value = str | int | float | bool | list[str] | tuple[str, ...] | None
Row = Mapping[str, Value]

_RECENT = 10
"""Step events whose mean speed says how long the rest takes."""


class RunView:
    """A run so far.

    Attributes:
        name: of the run.
        status: what it is doing, where that is not simply training; or how it ended.
        stands: whether it does not go on by itself, so that no time left can be told.
        best: the best top-1 that was evaluated, in percent, of the averaged weights where there are
            any; None before the first.
        num_classes: of the data; 0 if unknown.
    """

    def __init__(self, name: str, rows: Iterable[Row] = ()) -> None:
        self.name = name
        self.status = ""
        self.stands = False
        self.best: float | None = None
        self._has_average = False
        self.num_classes = 0
        self._start: Row = {}
        self._step: Row = {}
        self._score: Row = {}
        self._speeds: deque[float] = deque(maxlen=_RECENT)
        self._done = self._logged = 0
        self._wait_share: float | None = None
        self._seconds_an_event: float | None = None
        for row in rows:
            self.update(row)

    def update(self, row: Row) -> None:
        """Take an event."""
        kind = row["event"]
        if kind == "start":
            self._start = row
            self._done = self._logged = _whole(row["step"])
            self.num_classes = _whole(row.get("num_classes"))
            self.status = "compiling ..." if row.get("compile", "none") != "none" else "starting"
        elif kind == "step":
            self._take_step(row)
        elif kind == "eval":
            self._score = row
            if row.get("ema") and not self._has_average:  # from here on, its scores count
                self._has_average, self.best = True, None
            if bool(row.get("ema")) == self._has_average:
                self.best = max(self.best or 0.0, _number(row["top1"]))
        # A run that is told to stop says what it saved; its last step need not be a logged one.
        self._done = max(self._done, _whole(row.get("step")))

    def _take_step(self, row: Row) -> None:
        self.status = ""
        speed = _number(row["images_per_s"])
        steps = _whole(row["step"]) - self._logged
        batch = _whole(self._start.get("batch"))
        if speed and batch and steps > 0:
            self._speeds.append(speed)
            self._seconds_an_event = steps * batch / speed
            self._wait_share = min(1.0, _number(row["data_wait_s"]) / self._seconds_an_event)
        self._step, self._logged = row, _whole(row["step"])

    @property
    def done(self) -> int:
        """Optimizer steps."""
        return self._done

    @property
    def total(self) -> int:
        """Optimizer steps of the whole run; 0 if unknown."""
        return _whole(self._start.get("total_steps"))

    def seconds_left(self) -> float | None:
        """What the rest takes at the speed of the last steps, evaluations apart; None: unknown."""
        if self.stands or not (self.total and self._speeds):
            return None
        speed = sum(self._speeds) / len(self._speeds)
        return (self.total - self.done) * _whole(self._start.get("batch")) / speed

    @property
    def seconds_an_event(self) -> float | None:
        """What the steps between two step events took last; None: unknown."""
        return self._seconds_an_event

    def position(self) -> list[str]:
        """Steps and epochs that are done, of how many."""
        total = f"/{self.total:,}" if self.total else ""
        parts = [f"step {self.done:,}{total}"]
        if self._step:
            epochs = _whole(self._start.get("epochs"))
            parts.append(f"epoch {self._step['epoch']}{f'/{epochs}' if epochs else ''}")
        return parts

    def learning(self) -> list[str]:
        """Loss, learning rate, accuracy."""
        parts: list[str] = []
        if self._step:
            parts += [f"loss {_loss(self._step['loss'])}", f"lr {_number(self._step['lr']):.3g}"]
        if self._score:
            weights = " (EMA)" if self._score.get("ema") else ""
            parts.append(f"top-1 {_number(self._score['top1']):.2f} %{weights}")
            if self.num_classes >= MIN_CLASSES_TOP5:
                parts.append(f"top-5 {_number(self._score['top5']):.2f} %")
            parts.append(f"best {self.best:.2f} %")
        return parts

    def speed(self) -> list[str]:
        """Images a second, waiting for data, use of the machine, time left."""
        if not self._step:
            return []
        parts = [f"{_number(self._step['images_per_s']):,.0f} images/s"]
        if self._wait_share is not None:
            parts.append(f"data wait {100 * self._wait_share:.1f} %")
        parts += self._machine()
        seconds = self.seconds_left()
        if seconds is not None:
            parts.append(f"{duration(seconds)} left")
        return parts

    def _machine(self) -> list[str]:
        """What the model makes of the machine; logs of before do not have it."""
        memory, use = self._step.get("peak_memory_bytes"), self._step.get("mfu")
        parts = [f"memory {_number(memory) / 1e9:.2f} GB"] if memory else []
        return parts if use is None else [f"MFU {100 * _number(use):.1f} %", *parts]

    def step_line(self) -> str:
        """The last step in a line, for a log."""
        row = self._step
        total = f"/{self.total}" if self.total else ""
        text = (
            f"step {row['step']}{total}  epoch {row['epoch']}  loss {_loss(row['loss'])}"
            f"  {_number(row['images_per_s']):,.0f} images/s  data wait"
            f" {_number(row['data_wait_s']):.2f} s (rank {row.get('data_wait_rank', 0)})"
        )
        seconds = self.seconds_left()
        left = [] if seconds is None else [f"{duration(seconds)} left"]
        return "  ".join([text, *self._machine(), *left])

    def score_line(self) -> str:
        """The last evaluation in a line, for a log."""
        row = self._score
        # Of a few classes, five are nearly all.
        top5 = f" top-5 {row['top5']:.2f} %," if self.num_classes >= MIN_CLASSES_TOP5 else ""
        return (
            f"epoch {row['epoch']}: top-1 {row['top1']:.2f} %,{top5} loss {_loss(row.get('loss'))}"
            f" on {counted(_whole(row['count']), 'image')}"
            f" ({'EMA weights' if row['ema'] else 'weights'})"
        )

    def as_json(self) -> dict[str, Value]:
        """The state for other programs: the last step and evaluation, with what is reckoned."""
        return {
            "run": self.name,
            "status": self.status,
            "step": self.done,
            "total_steps": self.total or None,
            "seconds_left": self.seconds_left(),
            "data_wait_share": self._wait_share,
            "best_top1": self.best,
            **{name: self._step.get(name) for name in ("epoch", "loss", "lr", "images_per_s")},
            **{name: self._score.get(name) for name in ("top1", "top5", "ema")},
        }


def _number(value: Value) -> float:
    assert isinstance(value, int | float)
    return value


def _whole(value: Value) -> int:
    return value if isinstance(value, int) else 0


def _loss(value: Value) -> str:
    return "not finite" if value is None else f"{_number(value):.4f}"
