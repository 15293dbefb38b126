"""When the loss of a step is a spike: far above those of the steps before it.

The rule is robust: the median and the median absolute deviation (MAD) of the last `WINDOW` losses
do not move with the spike itself, and 1.4826 MAD is the standard deviation of a normal
distribution. The loss of a batch is a mean over its images, so `SIGMAS` of them do not come about
by chance; the second bound keeps the noise of a loss near 0, whose MAD is tiny, from counting.
A run that goes on begins with an empty window.
"""

import statistics
from collections import deque

WINDOW = 200
"""Losses that a new one is compared with."""
LEAST = 50
"""Losses that there must be before any can be a spike."""
SIGMAS = 10.0
"""Standard deviations above the median, at least."""
SHARE = 0.05
"""Of the median by which a spike is above it, at least."""

_SIGMA_OF_MAD = 1.4826


class SpikeRule:
    """Judges losses one after the other."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def judge(self, loss: float) -> float | None:
        """The median that a finite `loss` spikes above; None if it does not."""
        recent = self._recent
        median = None
        if len(recent) >= LEAST:
            middle = statistics.median(recent)
            mad = statistics.median(abs(other - middle) for other in recent)
            if loss > middle + max(SIGMAS * _SIGMA_OF_MAD * mad, SHARE * middle):
                median = middle
        recent.append(loss)
        return median
