"""What a run says when it starts and when it is complete."""

from pathlib import Path

import pytest
import torch

from models.build import build_model
from models.cost import Cost, model_cost
from trainer.events import Evaluated, Started
from trainer.record.announcement import LARGE_AREA, closing_words, size_warnings
from trainer.record.meta import RunProgress, Tally
from trainer.sinks.console import ConsoleProgress


def evaluated(*, ema: bool = False) -> Evaluated:
    return Evaluated(step=7, epoch=1, top1=50.0, top5=90.0, count=1, ema=ema)


def started(num_classes: int, compile_: str = "none") -> Started:
    settings = {"num_classes": num_classes, "compile": compile_}
    return Started(step=0, total_steps=7, epochs=1, batch=8, lines=("go",), **settings)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("convmixer_256_8", 32, []),
        ("convmixer_256_8", 224, ["49 times the area"]),
        ("vit_tiny_patch16_224", 224, []),
        ("vit_tiny_patch16_224", 16, ["one token left"]),
        ("resnet18", 32, ["one token left"]),
    ],
)
def test_sizes_that_are_likely_mistakes_are_named(name, size, expected):
    model = build_model(name, num_classes=10, img_size=size)
    lines = size_warnings(name, model_cost(model, name), size)
    assert len(lines) == len(expected)
    assert all(text in line for text, line in zip(expected, lines, strict=True))


def test_a_larger_size_within_reason_is_no_mistake():
    cost = Cost(parameters=1, macs=None, tokens=None, area=LARGE_AREA - 0.1)
    assert not size_warnings("some", cost, 600)


def test_the_end_says_which_weights_and_the_best_and_where():
    progress = RunProgress(epoch=2, step=7, best_top1=62.5)
    tally = Tally(images=100, train_s=50.0, wall_s=7500.0)
    folder = Path("runs/my run")
    text = closing_words(evaluated(ema=True), progress, tally, num_classes=10, folder=folder)
    assert text.splitlines()[0] == (
        "complete: top-1 50.00 %, top-5 90.00 % of 1 image (the EMA weights at the end; the best"
        " evaluation had 62.50 %)"
    )
    assert "2 epochs in 2 h 5 min, 2 images/s; all files are in runs/my run" in text
    assert "tools/validate.py 'runs/my run' --per-class 'runs/my run/classes.csv'" in text


@pytest.mark.parametrize(("num_classes", "is_said"), [(9, False), (10, True)])
def test_top_5_of_fewer_than_ten_classes_is_left_out(capsys, num_classes, is_said):
    text = closing_words(
        evaluated(), RunProgress(), Tally(), num_classes=num_classes, folder=Path("runs/a")
    )
    assert ("top-5" in text) == is_said
    console = ConsoleProgress("mine")
    console(started(num_classes))
    console(evaluated())
    assert ("top-5" in capsys.readouterr().out) == is_said


@pytest.mark.parametrize(("compile_", "is_said"), [("none", False), ("blocks", True)])
def test_compiling_is_said_while_it_is(capsys, compile_, is_said):
    ConsoleProgress("mine")(started(10, compile_))
    assert ("compiling ..." in capsys.readouterr().out) == is_said


def test_counting_leaves_the_model_and_the_random_numbers_alone():
    torch.manual_seed(3)
    model = build_model("dynamixer_nano", num_classes=10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    model_cost(model, "dynamixer_nano")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
