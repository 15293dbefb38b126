"""The losses against PyTorch's own and against the sums of their definitions."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.build import build_model
from pipeline.config import InputSpec
from tests.support.recipes import recipe
from trainer.distillation import Distillation, build_criterion
from trainer.optimization.loss import (
    DistillConfig,
    LossConfig,
    soft_target_cross_entropy,
    training_loss,
)


def logits_and_targets() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 5, generator=generator)
    return logits, torch.rand(7, 5, generator=generator).softmax(1)


def test_the_loss_is_cross_entropy_with_soft_targets():
    logits, targets = logits_and_targets()
    expected = F.cross_entropy(logits.double(), targets.double())
    torch.testing.assert_close(soft_target_cross_entropy(logits, targets).double(), expected)
    assert torch.equal(
        training_loss(logits, targets, LossConfig()), soft_target_cross_entropy(logits, targets)
    )


@pytest.mark.parametrize("threshold", [None, 0.0, 0.2])
def test_binary_cross_entropy_is_the_mean_over_classes_of_the_definition(threshold):
    logits, targets = logits_and_targets()
    targets[0] = torch.tensor([0.3, 0.7, 0.0, 0.0, 0.0])
    total = 0.0
    for row, shares in zip(logits.tolist(), targets.tolist(), strict=True):
        for logit, share in zip(row, shares, strict=True):
            right = share if threshold is None else float(share > threshold)
            sigmoid = 1 / (1 + math.exp(-logit))
            total -= right * math.log(sigmoid) + (1 - right) * math.log(1 - sigmoid)
    loss = training_loss(logits, targets, LossConfig(name="bce", bce_threshold=threshold))
    assert loss.item() == pytest.approx(total / 35, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossConfig(bce_threshold=0.0), "bce_threshold 0.0 has no effect without name bce"),
        (lambda: LossConfig(name="bce", bce_threshold=1.0), r"bce_threshold must be in \[0, 1\)"),
        (lambda: DistillConfig(alpha=0.9), "alpha 0.9 has no effect without a teacher"),
        (lambda: DistillConfig(teacher="x", alpha=0.0), r"alpha must be in \(0, 1\]"),
        (lambda: DistillConfig(teacher="x", kind="hard", temperature=2.0), "temperature has no"),
    ],
)
def test_what_would_be_ignored_or_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


SPEC = InputSpec(
    size=32, mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7), crop_pct=1.0, interpolation="bicubic"
)


def distillation(teacher: nn.Module, **fields: object) -> Distillation:
    config = DistillConfig(teacher="dynamixer_nano", **fields)
    return Distillation(teacher, loss=LossConfig(), distill=config, spec=SPEC, autocast=False)


def as_the_student_sees(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels - torch.tensor(SPEC.mean)[:, None, None]) / torch.tensor(SPEC.std)[:, None, None]


def test_the_teacher_sees_the_same_pixels_with_its_own_normalisation():
    teacher = build_model("dynamixer_nano", num_classes=5)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    config = teacher.pretrained_cfg
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    prepared = distillation(teacher).prepare(as_the_student_sees(pixels))
    torch.testing.assert_close(prepared, (pixels - mean) / std, rtol=0, atol=1e-6)


def test_the_teacher_sees_images_at_its_own_size():
    teacher = build_model("splitmixer_i_256_8", num_classes=5, img_size=48)
    prepared = distillation(teacher).prepare(as_the_student_sees(torch.full((1, 3, 32, 32), 0.5)))
    config = teacher.pretrained_cfg
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    expected = ((0.5 - mean) / std).expand(1, 3, 48, 48)
    torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "temperature", "alpha"), [("soft", 1.0, 0.5), ("soft", 3.0, 0.7), ("hard", 1.0, 0.25)]
)
def test_distillation_is_the_weighted_sum_of_its_definition(kind, temperature, alpha):
    teacher = build_model("dynamixer_nano", num_classes=5)
    criterion = distillation(teacher, kind=kind, temperature=temperature, alpha=alpha)
    images = torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    logits, targets = logits_and_targets()
    answers = criterion.ask(images).double()
    if kind == "hard":
        extra = F.cross_entropy(logits.double(), answers.argmax(1))
    else:
        told = (answers / temperature).softmax(1)
        asked = (logits.double() / temperature).softmax(1)
        extra = (told * (told / asked).log()).sum(1).mean() * temperature**2
    labels = F.cross_entropy(logits.double(), targets.double())
    expected = (1 - alpha) * labels + alpha * extra
    torch.testing.assert_close(
        criterion(images, logits, targets).double(), expected, rtol=1e-5, atol=1e-6
    )


def test_a_teacher_that_does_not_exist_is_named_by_its_key():
    asked = replace(recipe(), distill=DistillConfig(teacher="dynamixer_nan"))
    with pytest.raises(ValueError, match=r"^distill.teacher: unknown variant 'dynamixer_nan'"):
        build_criterion(asked, spec=SPEC, num_classes=5, device=torch.device("cpu"))


def test_no_gradient_reaches_the_teacher_or_its_statistics():
    teacher = build_model("splitmixer_i_256_8", num_classes=5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    logits, targets = logits_and_targets()
    criterion = distillation(teacher)
    criterion(torch.randn(7, 3, 32, 32), logits.requires_grad_(), targets).backward()
    assert logits.grad is not None
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
