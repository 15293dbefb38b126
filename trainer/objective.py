"""From a micro-batch to what is made smaller: plain labels, or labels of tokens.

The only place that knows how targets, the model's inputs and its outputs go together.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.layers.mix_token import box_mask, mix_box
from pipeline.augment.token_labels import mixed
from pipeline.batch import Batch, send
from pipeline.config import InputSpec
from pipeline.counter import Stream, uniforms
from pipeline.formats.source import Source
from pipeline.loaders.token_targets import TokenLabels, TokenTargeter
from trainer.job import Forward, Objective, Transform
from trainer.optimization.token_labels import TokenLabelsConfig, token_label_loss
from trainer.recipe import Recipe
from trainer.record.meta import RunProgress
from trainer.yaml_config import ConfigError

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""As `trainer.distillation` has it."""


class TokenModel(Protocol):
    """A model that classifies the tokens of a grid, as `models.lvvit`."""

    aux_head: nn.Module | None
    grid: tuple[int, int]


class MixTokenDraw(NamedTuple):
    """What MixToken does at a step.

    Attributes:
        mixed: (H, W) bool, on the host.
        kept: share of the grid outside it.
    """

    mixed: Tensor
    kept: float


def open_token_labels(recipe: Recipe, source: Source) -> TokenLabels | None:
    """The label maps of the training set; None where the recipe names none.

    Raises:
        DataError: if they cannot be read, or are of other images.
    """
    file = recipe.token_labels.file
    return TokenLabels(Path(file), source) if file else None


def build_objective(
    recipe: Recipe,
    model: nn.Module,
    *,
    transform: Transform,
    criterion: Criterion,
    labels: TokenLabels | None,
    spec: InputSpec,
    num_classes: int,
) -> Objective:
    """The objective of `recipe`.

    Raises:
        ConfigError: if the model does not classify tokens, and the recipe has labels of them.
    """
    if labels is None:
        return PlainObjective(transform, criterion)
    config = recipe.token_labels
    if getattr(model, "aux_head", None) is None:
        raise ConfigError(
            f"token_labels.file: {recipe.model.name} has no classifier of tokens (aux_head) that"
            " could learn them; train an lvvit_*, or leave token_labels out"
        )
    grid = cast("TokenModel", model).grid
    targeter = TokenTargeter(
        labels,
        data=recipe.data,
        augment=recipe.augment,
        spec=spec,
        seed=recipe.run.seed,
        grid=grid,
        num_classes=num_classes,
        exchange_xy=config.exchange_xy,
    )
    return TokenObjective(transform, targeter, config=config, grid=grid, seed=recipe.run.seed)


class PlainObjective:
    """The criterion of logits and soft labels."""

    def __init__(self, transform: Transform, criterion: Criterion) -> None:
        self._transform = transform
        self._criterion = criterion

    def __call__(self, forward: Forward, batch: Batch, progress: RunProgress) -> Tensor:
        """As `trainer.job.Objective`."""
        images, targets = self._transform.train(batch, progress.epoch)
        logits = forward(images)
        assert isinstance(logits, Tensor)
        return self._criterion(images, logits, targets)


class TokenObjective:
    """The token labeling loss, with MixToken's box keyed by (seed, step)."""

    def __init__(
        self,
        transform: Transform,
        targeter: TokenTargeter,
        *,
        config: TokenLabelsConfig,
        grid: tuple[int, int],
        seed: int,
    ) -> None:
        self._transform = transform
        self._targeter = targeter
        self._config = config
        self._grid = grid
        self._seed = seed

    def __call__(self, forward: Forward, batch: Batch, progress: RunProgress) -> Tensor:
        """As `trainer.job.Objective`."""
        images, labels = self._transform.train(batch, progress.epoch)
        targets = self._targeter.targets(batch, progress.epoch, labels)
        mixing = self._transform.mixing(batch, progress.epoch)
        if mixing is not None:
            targets = mixed(targets, mixing)
        draw = MixTokenDraw(torch.zeros(self._grid, dtype=torch.bool), 1.0)
        if self._config.mix_token:
            draw = mix_token_draw(self._grid, seed=self._seed, step=progress.step)
        outputs = forward(images, send(draw.mixed.numpy(), images.device))
        assert isinstance(outputs, tuple)
        return token_label_loss(*outputs, targets, draw.kept, self._config)


def mix_token_draw(grid: tuple[int, int], *, seed: int, step: int) -> MixTokenDraw:
    """The box of step `step`: the share kept is uniform (Beta(1, 1)), and so is the centre."""
    u = uniforms(Stream.MIX_TOKEN, seed=seed, epoch=0, samples=np.array([step]), count=3)[0]
    row, column = (math.floor(u[1 + axis] * grid[axis]) for axis in (0, 1))
    mixed = box_mask(mix_box(grid, kept=float(u[0]), row=row, column=column), grid)
    return MixTokenDraw(mixed, 1 - int(mixed.sum()) / mixed.numel())
