"""Averages are means of the checkpoints that were asked for."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.trained_models import small_model, write_run
from tools import average_checkpoints
from tools.cli.model_options import ModelChoice
from tools.trained.load import load


@pytest.fixture(scope="module")
def run(tmp_path_factory, image_folder):
    return write_run(tmp_path_factory.mktemp("average"), image_folder, steps=(1, 2, 3))


def average(output, *arguments):
    return average_checkpoints.main([*map(str, arguments), "--output", str(output)])


def mean_of(seeds):
    states = [small_model(seed=seed).state_dict() for seed in seeds]
    return {k: torch.stack([s[k].double() for s in states]).mean(0).float() for k in states[0]}


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        ([], (101, 102, 103)),
        (["--raw"], (1, 2, 3)),
        (["--best", "2"], (101, 102)),
        (["--best", "1", "--raw"], (1,)),
    ],
    ids=str,
)
def test_it_is_the_mean(run, tmp_path, options, seeds):
    file = tmp_path / "mean.safetensors"
    assert average(file, run, *options) == 0
    found, expected = load_file(file), mean_of(seeds)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-7)


def test_the_average_says_what_it_is_of(run, tmp_path):
    file = tmp_path / "mean.safetensors"
    assert average(file, run) == 0
    loaded = load(ModelChoice(kind="file", text=str(file)))
    newest = load(ModelChoice(kind="run", text=str(run)))
    assert loaded.description == newest.description


def test_files_are_averaged_and_counters_are_the_last_ones(tmp_path):
    for number in (2, 4):
        weights = {"w": torch.full((3,), float(number)), "steps": torch.tensor(number)}
        save_file(weights, tmp_path / f"{number}.safetensors")
    files = [tmp_path / "2.safetensors", tmp_path / "4.safetensors"]
    assert average(tmp_path / "mean.safetensors", *files) == 0
    found = load_file(tmp_path / "mean.safetensors")
    assert torch.equal(found["w"], torch.full((3,), 3.0))
    assert found["steps"] == 4


def test_files_of_two_models_are_refused(tmp_path, capsys):
    save_file({"w": torch.ones(3)}, tmp_path / "a.safetensors")
    save_file({"w": torch.ones(4)}, tmp_path / "b.safetensors")
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert average(tmp_path / "mean.safetensors", *files) == 2
    assert "another model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["RUN", "--best", "4"], "has 3 evaluated checkpoints"),
        (["nowhere.safetensors"], "no such file"),
        (["RUN", "RUN"], "give one run"),
    ],
    ids=str,
)
def test_mistakes_are_told(run, tmp_path, capsys, arguments, expected):
    words = [str(run) if word == "RUN" else word for word in arguments]
    assert average(tmp_path / "mean.safetensors", *words) == 2
    assert expected in capsys.readouterr().err
