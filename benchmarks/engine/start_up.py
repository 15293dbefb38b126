"""Run by `bench_engine`: seconds from the start of the process to the end of the first step; JSON.

    python benchmarks/engine/start_up.py STARTED_AT --config ... [key=value ...]

A real run of `launch.py`, whose parts are timed where they are called; STARTED_AT is the clock just
before. "compile" is what the first step computed longer than the second one. What is in no part is
"other": process group, folder, counting the model's cost.
"""

import functools
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PARTS = {
    "run.open_splits": "data",
    "data.build_loader": "data",
    "model.build_model": "model",
    "trainer.Engine": "engine",
}
"""What of which module of `trainer.assembly` is which part."""


class Watch:
    """Seconds by part, and of each step."""

    def __init__(self, started_at: float) -> None:
        """Count from `started_at`, of `time.time`."""
        self.started_at = started_at
        self.seconds: dict[str, float] = {}
        self.waits: list[float] = []
        self.steps: list[float] = []

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """`function`, whose time counts as `part`."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.time()
            result = function(*args, **kwargs)
            self.seconds[part] = self.seconds.get(part, 0.0) + time.time() - began
            return result

        return call

    def step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The trainer's step."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.time()
            function(*args, **kwargs)
            self.steps.append(time.time() - began)
            self.seconds.setdefault("total", time.time() - self.started_at)

        return call

    def wait(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The trainer's wait for a batch."""

        @contextmanager
        def waiting(clock: object) -> Iterator[None]:
            began = time.time()
            with function(clock):
                yield
            self.waits.append(time.time() - began)

        return waiting

    def parts(self) -> dict[str, float]:
        """All of it, in the order in which it happens."""
        found = {"imports": 0.0, "data": 0.0, "model": 0.0, "engine": 0.0} | self.seconds
        total = found.pop("total")
        second = self.steps[1] - self.waits[1]
        found["first batch"] = self.waits[0]
        found["compile"] = max(0.0, self.steps[0] - self.waits[0] - second)
        found["first step"] = self.steps[0] - self.waits[0] - found["compile"]
        return {**found, "other": total - sum(found.values()), "total": total}


def main() -> int:
    """Run, and say what took how long."""
    watch = Watch(float(sys.argv[1]))
    import launch
    from trainer.loop import Trainer
    from trainer.process.data_clock import DataClock

    watch.seconds["imports"] = time.time() - watch.started_at
    for place, part in PARTS.items():
        name, attribute = place.split(".")
        module = importlib.import_module(f"trainer.assembly.{name}")
        setattr(module, attribute, watch.timed(getattr(module, attribute), part))
    setattr(Trainer, "_train_step", watch.step(Trainer._train_step))  # noqa: B010
    setattr(DataClock, "waiting", watch.wait(DataClock.waiting))  # noqa: B010
    code = launch.main(sys.argv[2:])
    sys.stdout.write(f"RESULT {json.dumps(watch.parts())}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
