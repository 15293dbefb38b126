"""The learning rate as a pure function of the optimizer step.

Shapes are those of the published recipes: timm's cosine of 2021 (per epoch, counted from epoch 0),
ConvNeXt's cosine (per step, counted from the end of warmup) and ConvMixer's piecewise-linear one;
constant rates and warmup-stable-decay are for fine-tuning and for runs of open length.
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """How long to train, and how the learning rate goes."""

    epochs: int
    """Epochs before the cooldown; warmup counts among them."""
    shape: Literal["cosine", "onecycle", "constant", "wsd"] = "cosine"
    """`onecycle`: linear from 0 to lr at 40 %, to lr / 20 at 80 %, to 0 at the end. `wsd`: warmup,
    lr, then `decay_epochs` of linear decay to min_lr (Hu et al. 2024)."""
    update: Literal["step", "epoch"] = "step"
    """Whether the rate changes at each optimizer step or once an epoch (timm's habit)."""
    cosine_from: Literal["start", "warmup"] = "warmup"
    """Where the cosine's argument is 0; from `start`, warmup cuts off its beginning (timm)."""
    warmup_epochs: int = 0
    """Epochs in which the rate rises linearly from warmup_lr."""
    warmup_lr: float = 0.0
    """Rate at step 0, if there is a warmup."""
    min_lr: float = 0.0
    """Rate at the end of the cosine and during cooldown."""
    cooldown_epochs: int = 0
    """Epochs at min_lr, added after `epochs`."""
    decay_epochs: int = 0
    """The last of `epochs`, in which `wsd` decays."""

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {self.epochs}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs must be in [0, epochs = {self.epochs}), got {self.warmup_epochs}"
            )
        for name in ("warmup_lr", "min_lr", "cooldown_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if self.shape == "onecycle" and (self.warmup_epochs or self.cooldown_epochs or self.min_lr):
            raise ValueError(
                "shape onecycle brings its own warmup and ends at 0:"
                " leave warmup_epochs, cooldown_epochs and min_lr out, or set them to 0"
            )
        self._check_flat()

    def _check_flat(self) -> None:
        """Of the shapes with a plateau, and the keys that belong to one shape."""
        room = self.epochs - self.warmup_epochs
        if self.shape == "wsd" and not 0 < self.decay_epochs <= room:
            raise ValueError(
                f"decay_epochs must be in [1, epochs - warmup_epochs = {room}] for shape wsd,"
                f" got {self.decay_epochs}"
            )
        if self.shape != "wsd" and self.decay_epochs:
            raise ValueError(f"decay_epochs has no effect with shape {self.shape}; use shape wsd")
        if self.shape == "constant" and (self.min_lr or self.cooldown_epochs):
            raise ValueError(
                "shape constant never leaves lr: leave min_lr and cooldown_epochs out, or set them"
                " to 0"
            )

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run."""
        return self.epochs + self.cooldown_epochs


def lr_at(step: int, *, lr: float, config: ScheduleConfig, steps_per_epoch: int) -> float:
    """Learning rate of optimizer step `step`, counted from 0, for the peak rate `lr`."""
    if config.shape == "onecycle":
        return _onecycle(step, lr=lr, config=config, steps_per_epoch=steps_per_epoch)
    epoch = step // steps_per_epoch if config.update == "epoch" else step / steps_per_epoch
    if epoch < config.warmup_epochs:  # 1. linear warmup from warmup_lr
        return config.warmup_lr + (lr - config.warmup_lr) * epoch / config.warmup_epochs
    if epoch >= config.epochs:  # 2. cooldown at min_lr
        return config.min_lr
    if config.shape == "constant":  # 3. a plateau
        return lr
    if config.shape == "wsd":  # 4. a plateau, then a line
        left = min(1.0, (config.epochs - epoch) / config.decay_epochs)
        return config.min_lr + (lr - config.min_lr) * left
    begin = config.warmup_epochs if config.cosine_from == "warmup" else 0
    done = (epoch - begin) / (config.epochs - begin)
    return config.min_lr + 0.5 * (lr - config.min_lr) * (1 + math.cos(math.pi * done))  # 5. cosine


def _onecycle(step: int, *, lr: float, config: ScheduleConfig, steps_per_epoch: int) -> float:
    # The reference evaluates it after the step, hence + 1: the last step has rate 0.
    unit = steps_per_epoch if config.update == "epoch" else 1
    done = (step // unit * unit + 1) / (config.epochs * steps_per_epoch)
    if done < 0.4:
        return lr * done / 0.4
    if done < 0.8:
        return lr * (1 - 0.95 * (done - 0.4) / 0.4)
    return lr / 20 * max(0.0, 1 - done) / 0.2
