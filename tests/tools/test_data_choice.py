"""Which images a model is measured on: the split that is meant, or a sentence that names it."""

from dataclasses import replace

import pytest

from pipeline.config import DataConfig
from pipeline.errors import DataError
from tests.support.recipes import recipe
from tools.cli.data_choice import data_choice
from tools.cli.model_options import ModelChoice
from trainer import yaml_config

FILE = ModelChoice(kind="file", text="weights.safetensors")


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
    return str(root)


def refusal(*arguments):
    with pytest.raises(DataError) as caught:
        data_choice(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "split", "place"),
    [
        (("train", "val", "test"), None, "/val"),
        (("train", "val", "test"), "test", "/test"),
        (("cat", "dog"), None, ""),
        (("train_horse", "test"), None, ""),  # classes, of which one has the name of a split
        (("bus", "val"), None, "/val"),
        (("a.beton", "val.beton"), None, "/val"),
    ],
    ids=str,
)
def test_the_split_is_below_the_folder_or_the_folder_itself(tmp_path, names, split, place):
    root = folders(tmp_path / "data", *names)
    assert data_choice(FILE, root, split) == (DataConfig(), root + place)
    assert data_choice(FILE, f"{root}/", split) == (DataConfig(), root + place)


@pytest.mark.parametrize(
    ("names", "split", "said"),
    [
        (("train", "test"), None, "there is no val/ in it, but train/ and test/; add --split test"),
        (("train", "validation"), None, "train/ and validation/; add --split validation"),
        (("test",), None, "there is no val/ in it, but test/; add --split test"),
        (("train",), None, "but train/ alone; --split train measures on the training images"),
        (("train", "val"), "test", "there is no test/ in it, but train/ and val/; add --split val"),
        (("cat", "dog"), "test", "no test/ in it; leave --split out where the folder is itself"),
    ],
    ids=str,
)
def test_a_split_that_is_not_there_is_told_with_those_that_are(tmp_path, names, split, said):
    root = folders(tmp_path / "data", *names)
    told = refusal(FILE, root, split)
    assert told.startswith(f"{root}: ")
    assert said in told


@pytest.mark.parametrize(
    ("url", "split", "place"),
    [
        ("s3://b/data", None, "s3://b/data/val"),
        ("s3://b/data/test/", None, "s3://b/data/test"),
        ("s3://b/data/test", "test", "s3://b/data/test"),
        ("s3://b/data/test", "val", "s3://b/data/test/val"),
    ],
)
def test_of_a_url_the_name_alone_decides(url, split, place):
    assert data_choice(FILE, url, split) == (DataConfig(), place)


def test_nobody_says_on_which_data(tmp_path):
    assert refusal(FILE, None, None).endswith("does not say on which data; add --data FOLDER")
    assert "nowhere: there is no such folder" in refusal(FILE, str(tmp_path / "nowhere"), None)


def run_of(folder, root, *, runs="runs"):
    run = folder / "runs" / "mine"
    run.mkdir(parents=True)
    made = recipe()
    made = replace(
        made,
        data=replace(made.data, root=str(root), threads=3),
        run=replace(made.run, name="mine", root=runs),
    )
    (run / "recipe.yaml").write_text(yaml_config.dump(made))
    return ModelChoice(kind="run", text=str(run))


def test_a_relative_root_begins_where_the_run_was_started(tmp_path, monkeypatch):
    run = run_of(tmp_path / "project", "data/digits")
    expected = folders(tmp_path / "project/data/digits", "train", "val")
    folders(tmp_path / "data/digits", "train", "val")  # where the tool is called
    monkeypatch.chdir(tmp_path)
    data, place = data_choice(run, None, None)
    assert place == f"{expected}/val"
    assert data.threads == 3
    monkeypatch.chdir(tmp_path / "project")
    assert data_choice(run, None, None)[1] == "data/digits/val"
    monkeypatch.chdir("/")
    step = folders(tmp_path / "project/runs/mine/checkpoints/step_1")
    checkpoint = ModelChoice(kind="checkpoint", text=step)
    assert data_choice(checkpoint, None, "train")[1] == f"{expected}/train"


def test_a_run_that_was_moved_takes_what_lies_here(tmp_path, monkeypatch):
    run = run_of(tmp_path / "project", "data/digits", runs="results")
    folders(tmp_path / "data/digits", "train", "val")
    monkeypatch.chdir(tmp_path)
    assert data_choice(run, None, None)[1] == "data/digits/val"


@pytest.mark.parametrize("root", ["data/digits", "/nowhere/imagenet"])
def test_data_of_a_run_that_are_gone_are_told_with_where_they_were_looked_for(
    tmp_path, monkeypatch, root
):
    run = run_of(tmp_path / "project", root)
    monkeypatch.chdir(tmp_path)
    told = refusal(run, None, None)
    assert told.startswith(f"--data: {run.text} was trained on data.root {root}, which is not here")
    assert told.endswith("; add --data FOLDER")
    looked = f"(looked in {tmp_path / 'project'} and in {tmp_path})"
    assert (looked in told) == (root[0] != "/")


def test_a_run_without_a_recipe_says_so(tmp_path):
    choice = ModelChoice(kind="run", text=str(tmp_path))
    assert "no recipe.yaml that this version reads" in refusal(choice, None, None)
