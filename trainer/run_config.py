"""Bookkeeping of a run: where it lies, when it logs, saves and stops."""

from dataclasses import dataclass
from typing import Literal

STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Signals that a recipe may name: those with which schedulers announce an end."""
Layout = Literal["channels_last", "contiguous", "contiguous_depthwise"]
"""Those of `models.memory_layout`, whose import takes seconds: a mistake is told before."""
TAKEN_EXIT_CODES = (1, 2, 74)
"""Exit codes that say that a run failed; see `launch.py`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Bookkeeping. Only `seed` changes results."""

    name: str = ""
    """Folder of the run under `root`; empty: the stem of the recipe's file."""
    root: str = "runs"
    """Folder of all runs."""
    seed: int = 0
    """Of the weights, the order, the augmentation and the model's randomness."""
    log_every: int = 50
    """Optimizer steps between two `step` events."""
    evaluate_every: int = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    save_every: int = 1
    """Epochs between two checkpoints; the last epoch is always saved."""
    save_every_steps: int = 0
    """Optimizer steps between two checkpoints within an epoch; 0: none."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept, beside the best one."""
    max_steps: int = 0
    """Optimizer steps after which the run saves and ends, to try a recipe out; 0: all."""
    profile: int = 0
    """Optimizer steps of which rank 0 writes a trace into the run's folder, from the sixth of this
    process on, for https://ui.perfetto.dev; 0: none."""
    compile: Literal["none", "blocks", "model"] = "none"
    """torch.compile block by block (compiles sooner) or the model as a whole."""
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    """torch.compile's; `reduce-overhead` is for small batches, `max-autotune` compiles long.
    On a GPU both record CUDA graphs, which do not go with batches that are added up."""
    layout: Layout = "channels_last"
    """Order in memory in which convolutions see their images: `contiguous` is channel after
    channel, `contiguous_depthwise` that for depthwise convolutions alone."""
    kernels: bool = False
    """Use the fused kernels for GPUs (docs/gpu_speed.md); MILLSTREAM_KERNELS=0 or 1 decides over
    it."""
    tuned: bool = False
    """Take for the four keys above what `tools/tune.py` found fastest on this machine, for this
    model and `batch.per_gpu`, and the defaults where it has not looked. They change rounding only.
    A run that goes on keeps what it began with."""
    max_hours: float = 0.0
    """Hours after which this process saves and stops, as if it had been told to; the same command
    goes on. 0: no limit."""
    patience: int = 0
    """Evaluations in a row without a better top-1 after which the run is complete; 0: never."""
    sinks: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    """Where curves go, beside the run's own files: `tensorboard` (a folder of the run), `wandb`
    (with WANDB_MODE=offline: a folder of the run, too), `trackio` (a database of this machine)."""
    project: str = "millstream"
    """Under which W&B and trackio list the run."""
    stop_signals: tuple[str, ...] = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
    """Signals upon which the run saves and stops."""
    stop_exit_code: int = 75
    """Exit code then. Some schedulers start a job again only for certain codes, or above 127."""
    watchdog_s: float = 60.0
    """Seconds without a sign of life of a rank, or without progress in a step, after which all
    ranks end, with words about the one that hangs. 0: never."""

    def __post_init__(self) -> None:
        if "/" in self.name or self.name in (".", ".."):
            raise ValueError(f"name must be a plain folder name, got {self.name!r}; see root")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2**32), got {self.seed}")
        for name in ("log_every", "evaluate_every", "save_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in (
            *("save_every_steps", "max_steps", "profile", "max_hours", "patience", "watchdog_s"),
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        self._check_tuned()
        self._check_sinks()
        self._check_stop()

    def _check_tuned(self) -> None:
        own = {"compile": "none", "compile_mode": "default", "layout": "channels_last"}
        said = [name for name, default in own.items() if getattr(self, name) != default]
        said += ["kernels"] if self.kernels else []
        if self.tuned and said:
            raise ValueError(
                f"tuned chooses {' and '.join(said)} itself; leave {said[0]} out, or tuned"
            )

    def _check_sinks(self) -> None:
        if len(set(self.sinks)) < len(self.sinks):
            raise ValueError(f"sinks must name each once, got {', '.join(self.sinks)}")
        if self.project != "millstream" and not {"wandb", "trackio"} & set(self.sinks):
            raise ValueError(
                f"project {self.project!r} has no effect without wandb or trackio in sinks; leave"
                " it out, or add one of them"
            )

    def _check_stop(self) -> None:
        for name in self.stop_signals:
            if name not in STOP_SIGNALS:
                raise ValueError(
                    f"stop_signals must be among {', '.join(STOP_SIGNALS)}; got {name}"
                )
        if not 0 < self.stop_exit_code < 256 or self.stop_exit_code in TAKEN_EXIT_CODES:
            raise ValueError(
                "stop_exit_code must be in 1..255 and none of"
                f" {', '.join(map(str, TAKEN_EXIT_CODES))}, which say something else; got"
                f" {self.stop_exit_code}"
            )
