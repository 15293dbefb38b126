"""The optimizer: AdamW as torch has it, or any of timm's by its name, and gradient clipping."""

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.optimization.optimizer_names import OPTIMIZERS

if TYPE_CHECKING:
    # Imported only where it is used: a recipe, which has these options, is checked in no time.
    import torch
    from torch import nn

_AGC_EPS = 1e-3
"""Smallest norm that a weight is taken to have, so that zero weights can begin to learn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """One optimizer, its rates and its clipping."""

    name: str = "adamw"
    """`adamw` (Loshchilov & Hutter 2019) is torch's fused one; others are timm's, by its names and
    with its defaults: sgd (nesterov), momentum, lamb, lion, muon, adan, ..."""
    lr: float
    """Peak learning rate for the global batch as it is: nothing is scaled behind your back."""
    weight_decay: float = 0.05
    """Share of a weight, times the learning rate, that is taken off it at each step."""
    betas: tuple[float, ...] | None = None
    """Decay of the averages of the gradient and of its square; None: the optimizer's own, (0.9,
    0.999) of adamw."""
    eps: float | None = None
    """Added to the root of the average square; None: the optimizer's own, 1e-8 of adamw."""
    momentum: float | None = None
    """None: 0.9, for optimizers that have one."""
    clip_norm: float = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""
    clip_value: float = 0.0
    """Largest magnitude of each element of the gradient; 0 does not clip."""
    clip_agc: float = 0.0
    """Adaptive clipping (Brock et al. 2021): largest norm of the gradient of each output unit, as a
    share of the norm of its weights; the classifier is not clipped. 0 does not clip."""
    decay_all: bool = False
    """Decay biases and norms too, as the ConvMixer family's CIFAR recipe does."""
    no_decay: tuple[str, ...] = ()
    """Patterns of names, such as `*.weight_bank`, that are not decayed either."""
    layer_decay: float = 1.0
    """The rate of each layer is this share of the next one's, the classifier's is `lr` (Clark et
    al. 2020, as in BEiT); layers are those of timm's `group_matcher`, or 12 weights each where a
    model has none, as in timm."""
    backbone_lr: float = 1.0
    """The rate of all but the classifier, as a share of `lr`."""

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            near = difflib.get_close_matches(self.name, OPTIMIZERS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(OPTIMIZERS)}"
            raise ValueError(f"name: there is no optimizer {self.name!r}; {hint}")
        if self.name == "adamw":  # stated, so that a run's recipe shows the values that act
            object.__setattr__(self, "betas", self.betas or (0.9, 0.999))
            object.__setattr__(self, "eps", 1e-8 if self.eps is None else self.eps)
        self._check_numbers()
        self._check_traits()

    def _check_numbers(self) -> None:
        for name in ("lr", "eps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be > 0 and finite, got {value}")
        clips = ("clip_norm", "clip_value", "clip_agc")
        for name in ("weight_decay", *clips):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if len(used := [name for name in clips if getattr(self, name)]) > 1:
            raise ValueError(f"{' and '.join(used)} cannot go together; keep one")
        if not all(0 <= beta < 1 for beta in self.betas or ()):
            raise ValueError(f"betas must be in [0, 1), got {list(self.betas or ())}")
        for name in ("layer_decay", "backbone_lr"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if self.no_decay and self.decay_all:
            raise ValueError("no_decay and decay_all contradict each other; keep one")

    def _check_traits(self) -> None:
        """Refuse what the optimizer would ignore."""
        traits = OPTIMIZERS[self.name]
        for name, takes in (
            ("betas", traits.num_betas),
            ("eps", traits.has_eps),
            ("momentum", traits.has_momentum),
        ):
            if getattr(self, name) is not None and not takes:
                raise ValueError(
                    f"{name} has no effect with name {self.name}; leave it out, or set it to null"
                    " where the recipe or its base has it"
                )
        if self.betas is not None and len(self.betas) != traits.num_betas:
            raise ValueError(
                f"betas: {self.name} takes {traits.num_betas} numbers, got {list(self.betas)}"
            )

    @property
    def needs_whole_weights(self) -> str:
        """The setting, if any, that computes something else on ZeRO's flat pieces of weights."""
        if OPTIMIZERS[self.name].whole:
            return f"optim.name {self.name}"
        return f"optim.clip_agc {self.clip_agc}" if self.clip_agc else ""


def build_optimizer(
    model: "nn.Module", groups: list[dict[str, object]], config: OptimConfig
) -> "torch.optim.Optimizer":
    """The optimizer over `groups` (see `parameter_groups`), which clips as it steps.

    AdamW's fused kernel needs no build and gives the same values at every ZeRO stage. Clipping by
    norm is the engine's, which knows the norm over all ranks.
    """
    optimizer = _construct(groups, config)
    if config.clip_value:
        optimizer.register_step_pre_hook(lambda *_: _clip_values(optimizer, config.clip_value))
    if config.clip_agc:
        from models.build import classifier_weights

        classifier = {id(weight) for weight in classifier_weights(model)}
        optimizer.register_step_pre_hook(
            lambda *_: _clip_adaptively(optimizer, config.clip_agc, classifier)
        )
    return optimizer


def _construct(groups: list[dict[str, object]], config: OptimConfig) -> "torch.optim.Optimizer":
    if config.name == "adamw":
        from torch.optim import AdamW

        assert config.betas is not None
        assert config.eps is not None
        betas = (config.betas[0], config.betas[1])
        return AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)
    from timm.optim._optim_factory import create_optimizer_v2

    given = {"betas": config.betas, "eps": config.eps, "momentum": config.momentum}
    return create_optimizer_v2(
        groups,
        opt=config.name,
        lr=config.lr,
        weight_decay=config.weight_decay,
        **{name: value for name, value in given.items() if value is not None},
    )


def _clip_values(optimizer: "torch.optim.Optimizer", most: float) -> None:
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.grad is not None:
                weight.grad.clamp_(-most, most)


def _clip_adaptively(
    optimizer: "torch.optim.Optimizer", share: float, classifier: set[int]
) -> None:
    from timm.utils.agc import adaptive_clip_grad

    weights = [
        weight
        for group in optimizer.param_groups
        for weight in group["params"]
        if id(weight) not in classifier
    ]
    adaptive_clip_grad(weights, clip_factor=share, eps=_AGC_EPS)
