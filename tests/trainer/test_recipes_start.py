"""Every recipe in configs/ gets past what launch.py checks first, and small ones train a step."""

import json
import sys

import pytest

from tests.support.forks import ROOT
from tests.trainer.test_recipes import CONFIGS, RECIPES
from tools import make_digits
from trainer import yaml_config
from trainer.process.early_checks import check_names
from trainer.recipe import Recipe


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    make_digits.main([str(folder)])
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_passes_the_early_checks(name, digits):
    recipe = yaml_config.load(Recipe, CONFIGS / f"{name}.yaml", [f"data.root={digits}"])
    check_names(recipe)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("cifar10/splitmixer_ii_256_8", ["batch.global_size=16", "batch.per_gpu=8"]),
        ("cifar100/convmixer_256_8", ["batch.global_size=8", "batch.per_gpu=8"]),
        pytest.param(
            "imagenet/amixer_t",
            ["batch.global_size=4", "batch.per_gpu=2"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_recipe_trains_a_step(name, overrides, digits, forks, tmp_path):
    program = [sys.executable, ROOT / "launch.py", "--config", CONFIGS / f"{name}.yaml"]
    places = [f"data.root={digits}", f"run.root={tmp_path}"]
    done = forks.run([*program, *places, *overrides, "run.max_steps=1"])
    assert done.returncode == 0, done.stderr[-2000:]
    (log,) = tmp_path.glob("*/metrics.jsonl")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    (step,) = [event for event in events if event["event"] == "step"]
    assert 0 < step["loss"] < 20
    assert "run.max_steps 1 reached" in events[-1]["text"]
