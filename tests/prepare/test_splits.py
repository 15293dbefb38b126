"""Splits that are made of what is there: held-out images, another folder, classes left out."""

import json
import shutil

import numpy as np
import pytest

from pipeline.formats.open import open_source
from tools import check_data, make_shards


def make(source, output, *options):
    return make_shards.main([str(source), "--output", str(output), *options])


def keys(folder):
    source = open_source(folder)
    samples = source.read_many(range(len(source.labels)))
    return {sample.key: source.classes[sample.label] for sample in samples}


@pytest.fixture(scope="module")
def only_train(image_folder, tmp_path_factory):
    """The training images of five classes, without any others. Read-only."""
    root = tmp_path_factory.mktemp("only") / "photos"
    shutil.copytree(image_folder / "train", root / "train")
    return root


def test_held_out_images_are_all_the_others_and_the_same_whatever_else_is_there(
    only_train, tmp_path
):
    options = ("--val-fraction", "0.3", "--on-error", "skip")
    assert make(only_train, tmp_path / "whole", *options) == 0
    train, val = keys(tmp_path / "whole" / "train"), keys(tmp_path / "whole" / "val")
    there = {f"{p.parent.name}/{p.stem}" for p in (only_train / "train").glob("*/*")}
    assert train.keys() | val.keys() == there
    assert not train.keys() & val.keys()
    assert 5 < len(val) < 30  # 62 draws at 0.3

    fewer = tmp_path / "fewer"
    shutil.copytree(only_train, fewer)
    gone = sorted((fewer / "train").glob("*/*"))[::3]
    for path in gone:
        path.unlink()
    assert make(fewer, tmp_path / "part", *options) == 0
    left = there - {f"{p.parent.name}/{p.stem}" for p in gone}
    assert keys(tmp_path / "part" / "val").keys() == val.keys() & left


def test_another_seed_holds_out_others_and_the_same_seed_the_same(only_train, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        options = ("--val-fraction", "0.3", "--val-seed", seed)
        assert make(only_train, tmp_path / name, *options, "--on-error", "skip") == 0
    held = {name: keys(tmp_path / name / "val") for name in "abc"}
    assert held["a"] == held["b"] != held["c"]


def test_another_folder_serves_as_val(image_folder, only_train, tmp_path, capsys):
    source = tmp_path / "photos"
    shutil.copytree(only_train, source)
    shutil.copytree(image_folder / "val", source / "test")
    assert make(source, tmp_path / "refused") == 2
    assert "--val-folder test takes test/ as val" in capsys.readouterr().err
    assert make(source, tmp_path / "shards", "--val-folder", "test") == 0
    assert make(image_folder, tmp_path / "plain") == 0
    assert keys(tmp_path / "shards" / "val") == keys(tmp_path / "plain" / "val")


def test_a_class_that_became_empty_is_named_and_can_be_left_out(image_folder, tmp_path, capsys):
    source = tmp_path / "photos"
    shutil.copytree(image_folder, source)
    gone = "n01443537"
    for path in (source / "train" / gone).iterdir():
        path.write_bytes(b"")
    assert make(source, tmp_path / "kept", "--on-error", "skip") == 0
    assert f"without an image, but still 1 class of the model: {gone};" in capsys.readouterr().out
    assert len(open_source(tmp_path / "kept" / "train").classes) == 5

    options = ("--on-error", "skip", "--drop-empty-classes")
    assert make(source, tmp_path / "left", *options) == 0
    assert "without an image" not in capsys.readouterr().out
    whole = {k: c for k, c in keys(tmp_path / "kept" / "val").items() if c != gone}
    assert keys(tmp_path / "left" / "val") == whole
    train = open_source(tmp_path / "left" / "train")
    assert train.classes == open_source(tmp_path / "left" / "val").classes
    assert len(train.classes) == 4
    assert set(np.unique(train.labels)) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--val-fraction", "0.1"), "holds images out of train where there is no val"),
        (("--val-folder", "test"), "--val-folder test: there is no such local folder"),
        (("--val-seed", "3"), "--val-seed has no effect without --val-fraction"),
    ],
)
def test_what_cannot_be_split_is_refused(image_folder, tmp_path, capsys, options, message):
    assert make(image_folder, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_share_that_leaves_a_side_empty_is_refused(only_train, tmp_path, capsys):
    assert make(only_train, tmp_path / "out", "--val-fraction", "0.0001") == 2
    assert "leaves no image in val of the 62 there are" in capsys.readouterr().err


def test_a_shard_with_held_out_images_is_made_again_from_the_same_source(only_train, tmp_path):
    options = ("--val-fraction", "0.3", "--val-seed", "1")
    output = tmp_path / "shards"
    assert make(only_train, output, *options, "--on-error", "skip") == 0
    shard = next((output / "val").glob("*.tar"))
    sound = shard.read_bytes()
    shard.write_bytes(sound[:-700])
    assert check_data.main([str(output / "val"), "--repair", str(only_train), *options]) == 0
    assert shard.read_bytes() == sound


def test_checking_names_what_is_not_read(image_folder, tmp_path, capsys):
    shutil.copytree(image_folder, tmp_path / "photos")
    (tmp_path / "photos" / "test").mkdir()
    assert check_data.main([str(tmp_path / "photos")]) == 0
    assert "test: not read: it is neither train nor val" in capsys.readouterr().out


def test_one_image_is_not_called_images(only_train, tmp_path, capsys):
    lone = tmp_path / "lone"
    for split in ("train", "val"):
        target = lone / split / "a"
        target.mkdir(parents=True)
        shutil.copy(next((only_train / "train").glob("*/*")), target / "one.jpg")
    assert make(lone, tmp_path / "shards", "--json") == 0
    assert json.loads(capsys.readouterr().out)["splits"][0]["images"] == 1
    assert make(lone, tmp_path / "shards") == 0
    out = capsys.readouterr().out
    assert "already complete: 1 image of 1 class, " in out
    assert "in 1 shard, " in out
