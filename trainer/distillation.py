"""What a step minimises: the loss on the labels and, with a teacher, that on its answers.

The teacher sees the very images of the student, cropped, mixed and erased, at its own size and with
its own normalisation. Its answers on mixed images are what makes it worth asking.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.build import build_model, input_config, unknown_variant
from pipeline.config import InputSpec
from trainer.initial_weights import load_weights
from trainer.optimization.loss import DistillConfig, LossConfig, training_loss
from trainer.recipe import Recipe

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (B, 3, H, W), logits (B, K), targets (B, K)) -> a float32 scalar."""


def build_criterion(
    recipe: Recipe, *, spec: InputSpec, num_classes: int, device: torch.device
) -> Criterion:
    """The criterion of `recipe`, for images that are prepared as `spec` says.

    Raises:
        ValueError: if the teacher cannot be had, or knows other classes.
    """
    if not recipe.distill.teacher:
        return lambda _, logits, targets: training_loss(logits, targets, recipe.loss)
    return Distillation(
        _load_teacher(recipe.distill, num_classes).to(device),
        loss=recipe.loss,
        distill=recipe.distill,
        spec=spec,
        autocast=recipe.precision.dtype != "fp32",
    )


class Distillation:
    """(1 - alpha) loss(labels) + alpha loss(teacher), see `DistillConfig`."""

    def __init__(
        self,
        teacher: nn.Module,
        *,
        loss: LossConfig,
        distill: DistillConfig,
        spec: InputSpec,
        autocast: bool,
    ) -> None:
        """Ask `teacher` about images that are prepared as `spec` says.

        With `autocast` it computes in bfloat16.
        """
        self._teacher = teacher.eval()
        self._loss = loss
        self._distill = distill
        self._autocast = autocast
        self._size = input_config(teacher).size
        device = next(teacher.parameters()).device
        wanted = input_config(teacher)
        mean, std, own_mean, own_std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (spec.mean, spec.std, wanted.mean, wanted.std)
        )
        self._scale = std / own_std
        self._shift = (mean - own_mean) / own_std

    def __call__(self, images: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of one micro-batch: images (B, 3, H, W), logits and targets (B, K)."""
        labels = training_loss(logits, targets, self._loss)
        alpha = self._distill.alpha
        return (1 - alpha) * labels + alpha * self._from_teacher(logits.float(), self.ask(images))

    @torch.no_grad()
    def ask(self, images: Tensor) -> Tensor:
        """The teacher's logits (B, K) of images that were prepared for the student."""
        inputs = self.prepare(images)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._autocast):
            return self._teacher(inputs).float()

    def prepare(self, images: Tensor) -> Tensor:
        """Images with the teacher's normalisation, resized to its (height, width)."""
        inputs = images.float() * self._scale + self._shift
        if inputs.shape[-2:] == self._size:
            return inputs
        return F.interpolate(inputs, self._size, mode="bicubic", antialias=True)

    def _from_teacher(self, logits: Tensor, answers: Tensor) -> Tensor:
        if self._distill.kind == "hard":
            return F.cross_entropy(logits, answers.argmax(dim=1))
        heat = self._distill.temperature
        told, asked = (answers / heat).log_softmax(dim=1), (logits / heat).log_softmax(dim=1)
        return F.kl_div(asked, told, reduction="batchmean", log_target=True) * heat**2


def _load_teacher(config: DistillConfig, num_classes: int) -> nn.Module:
    if unknown := unknown_variant(config.teacher):
        raise ValueError(f"distill.teacher: {unknown}")
    teacher = build_model(config.teacher, num_classes=num_classes)
    source = config.weights or config.teacher
    if not load_weights(teacher, source, name=config.teacher, key="distill.weights"):
        raise ValueError(
            f"distill.teacher: {source} does not tell the {num_classes} classes of the data apart;"
            " use a teacher that was trained on them"
        )
    return teacher
