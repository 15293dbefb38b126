"""Candidates that take turns within a budget of time: what else the machine does hits all alike."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from pipeline.errors import DataError
from trainer.tuning.choice import Choice

Step = Callable[[], None]

_WARM_UP_SHARE = 0.5
"""Of the budget, after which no candidate is begun that has not been compiled."""
_TURN_S = 0.1
"""Seconds of a turn at least, in which short steps are repeated."""
_MAX_ROUNDS = 50
_WORTH = 1.02
"""How many times as fast as the default a choice must be, to be taken instead of it."""
_NO_ROOM = "--batch: a step of so many images has no room in this GPU's memory; use a smaller batch"


@dataclass(kw_only=True)
class Candidate:
    """A choice, and what is known of it.

    Attributes:
        choice: what is tried.
        first_step_s: seconds of the first step, compiling included.
        seconds: of a step, by the number of the round.
        left_out: why it was not timed, in words; empty if it was.
    """

    choice: Choice
    first_step_s: float = 0.0
    seconds: dict[int, float] = field(default_factory=dict)
    left_out: str = ""

    @property
    def median_s(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds.values())


class Contest:
    """Times candidates.

    Attributes:
        candidates: all of them, the default first.
        is_cut: whether it was interrupted; what was timed before counts.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        *,
        budget_s: float,
        device: torch.device,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin the budget of time, in seconds of `clock`; `tell` is told what comes next."""
        self.candidates = [Candidate(choice=choice) for choice in choices]
        self.is_cut = False
        self._steps: dict[Choice, tuple[Step, int]] = {}
        self._device = device
        self._budget_s = budget_s
        self._rounds = 0
        self._tell = tell
        self._clock = clock
        self._began = clock()

    def run(self, make: Callable[[Choice], Step]) -> None:
        """Make a step of each choice and time them.

        Steps are begun in time or not at all, but compiling cannot be cut short. Afterwards their
        memory is free for another contest.

        Raises:
            DataError: if the default does not fit into memory.
            KeyboardInterrupt: if it is interrupted before anything is timed.
        """
        try:
            for candidate in self.candidates:
                self._warm_up(candidate, make)
                self._take_turns()  # with those before, so that an interruption leaves something
            while self._rounds < _MAX_ROUNDS and self._spent_s < self._budget_s:
                self._take_turns()
        except KeyboardInterrupt:
            self.is_cut = True
            if not self.candidates[0].seconds:
                raise
        finally:
            self._steps.clear()

    @property
    def timed(self) -> list[Candidate]:
        """Those that were timed."""
        return [candidate for candidate in self.candidates if candidate.seconds]

    @property
    def winner(self) -> Candidate:
        """The fastest; the default, unless another is worth it."""
        best = max(self.timed, key=self.speed)
        return best if self.speed(best) >= _WORTH else self.candidates[0]

    def speed(self, candidate: Candidate) -> float:
        """How many times as fast as the default it is: the median of the rounds' ratios."""
        default = self.candidates[0].seconds
        return statistics.median(default[n] / own for n, own in candidate.seconds.items())

    @property
    def _spent_s(self) -> float:
        return self._clock() - self._began

    def _warm_up(self, candidate: Candidate, make: Callable[[Choice], Step]) -> None:
        if self._steps and self._spent_s > _WARM_UP_SHARE * self._budget_s:
            candidate.left_out = "no time left"
            return
        self._tell(f"trying {candidate.choice}")
        try:
            step = make(candidate.choice)
            candidate.first_step_s = self._time(step, 1)
            repeats = max(1, round(_TURN_S / self._time(step, 1)))
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            candidate.left_out = "no room in memory"
            if not self._steps:
                raise DataError(_NO_ROOM) from error
        except Exception as error:  # compilers raise anything; others are left
            if not self._steps:
                raise
            candidate.left_out = str(error).strip().partition("\n")[0] or type(error).__name__
        else:
            self._steps[candidate.choice] = step, repeats

    def _take_turns(self) -> None:
        """One round; where memory does not hold what all have kept, without the newest ones."""
        ready = [c for c in self.candidates if c.choice in self._steps]
        while not self._has_taken_turns(ready):
            newest = ready.pop()
            if not ready:
                raise DataError(_NO_ROOM)
            newest.left_out = "no room in memory beside the others"
            del self._steps[newest.choice]
            gc.collect()  # models and what is compiled of them refer to each other
            torch.cuda.empty_cache()

    def _has_taken_turns(self, ready: Sequence[Candidate]) -> bool:
        """Each round begins with another candidate; all of it counts, or nothing without room."""
        number = self._rounds + 1
        self._tell(f"round {number}, {len(ready)} candidates")
        first = number % len(ready)
        taken = {}
        try:
            for candidate in (*ready[first:], *ready[:first]):
                taken[candidate.choice] = self._time(*self._steps[candidate.choice])
        except torch.OutOfMemoryError:
            return False
        for candidate in ready:
            candidate.seconds[number] = taken[candidate.choice]
        self._rounds = number
        return True

    def _time(self, step: Step, repeats: int) -> float:
        """Seconds of a step."""
        self._wait()
        began = self._clock()
        for _ in range(repeats):
            step()
        self._wait()
        return (self._clock() - began) / repeats

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
