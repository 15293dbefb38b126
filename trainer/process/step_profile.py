"""`run.profile`: a trace of a few steps, for chrome://tracing or https://ui.perfetto.dev."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

_SKIPPED, _WARMUP = 3, 2
"""Steps before: the first ones compile and allocate, and the profiler's own start takes time."""


class StepProfile:
    """Traces `steps` steps of this process, once; nothing at all if they are 0."""

    def __init__(self, steps: int, folder: Path, say: Callable[[str], None]) -> None:
        """Prepare a trace.

        Args:
            steps: how many.
            folder: of the run; the trace becomes `profile_N.json` in it, N the last step.
            say: is told where it lies.
        """
        self._folder = folder
        self._say = say
        self._last = 0
        self._profile: profile | None = None
        if steps:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(
                activities=activities,
                schedule=schedule(wait=_SKIPPED, warmup=_WARMUP, active=steps, repeat=1),
                on_trace_ready=self._write,
            )
            self._profile.start()

    def stepped(self, step: int) -> None:
        """Step `step`, counted from 1, is done."""
        if self._profile is not None:
            self._last = step
            self._profile.step()

    def close(self) -> None:
        """End; if the run ends before the last step to be traced, the trace has those there are.

        If there are none, that is said.
        """
        if self._profile is not None:
            self._profile.stop()
        if self._profile is not None:  # `_write` was not called
            self._profile = None
            first = _SKIPPED + _WARMUP
            self._say(f"run.profile: no trace, since this process did not get past step {first}")

    def _write(self, finished: profile) -> None:
        path = self._folder / f"profile_{self._last:08d}.json"
        finished.export_chrome_trace(str(path))
        self._say(
            f"profile of the steps up to {self._last}: {path}; open it in https://ui.perfetto.dev"
            " or chrome://tracing. The steps after it run at full speed again"
        )
        self._profile = None
