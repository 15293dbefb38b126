"""Averages are means of the checkpoints that were asked for."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.pictures import CLASSES
from tests.support.trained_models import describe, small_model, write_run
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


def test_weights_of_the_same_shapes_but_other_classes_are_refused(tmp_path, capsys):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file, classes in zip(files, (CLASSES, [*CLASSES[1:], "zebra"]), strict=True):
        model = small_model(classes=classes)
        save_file(model.state_dict(), file, describe(model, classes).as_metadata())
    assert average(tmp_path / "mean.safetensors", *files) == 2
    assert f"b.safetensors: has other classes than {files[0]}" in capsys.readouterr().err


def test_a_run_with_one_checkpoint_says_what_leaves_more(tmp_path, image_folder, capsys):
    run = write_run(tmp_path, image_folder, steps=(1,))
    assert average(tmp_path / "mean.safetensors", run) == 2
    error = capsys.readouterr().err
    assert "there is 1 checkpoint, and a mean needs two; run.save_every and run.keep_" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["RUN", "--best", "4"], "there are 3 evaluated checkpoints, and --best 4 asks for more"),
        (["nowhere.safetensors"], "nowhere.safetensors: there is no such file or folder"),
        (["runs/nowhere"], "runs/nowhere: there is no such file or folder"),
        (["RUN", "RUN"], "a run's folder stands alone; to average with others, give files"),
        (["RUN/checkpoints/step_00000001"], "one checkpoint; give the run's folder"),
        (["RUN/checkpoints"], "not a run's folder"),
        (["RUN/recipe.yaml"], "neither a run's folder nor .safetensors"),
        (["A"], "one file has no mean"),
        (["A", "B", "A"], "a file is given twice"),
        (["A", "B", "--raw"], "--raw: has no effect on files"),
        (["A", "B", "--best", "2"], "--best: has no effect on files"),
    ],
    ids=str,
)
def test_mistakes_are_told_in_one_sentence(run, tmp_path, capsys, arguments, expected):
    places = {
        letter: str(run / f"checkpoints/step_0000000{step}/ema.safetensors")
        for letter, step in (("A", 1), ("B", 2))
    }
    words = [places.get(word, word).replace("RUN", str(run)) for word in arguments]
    assert average(tmp_path / "mean.safetensors", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_an_input_is_not_replaced(tmp_path, capsys):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file in files:
        save_file({"w": torch.ones(3)}, file)
    assert average(files[0], *files, "--force") == 73
    assert "is one of the inputs" in capsys.readouterr().err
