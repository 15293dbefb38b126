"""The dump of preview_batches: from its numbers alone, PIL and timm make the same pictures."""

import json

import numpy as np
import pytest
import timm.data.auto_augment as timm_auto_augment
import torch
from PIL import Image, ImageOps

from pipeline.augment.batches import BatchTransform
from pipeline.formats.open import open_source
from tools import preview_batches
from tools.cli import exits
from tools.preview import drawn
from trainer import yaml_config
from trainer.recipe import Recipe

RECIPE = """\
model: {{name: dynamixer_nano}}
data: {{root: {root}, threads: 1, crop: {{interpolation: random}}}}
batch: {{global_size: 12, per_gpu: 6}}
optim: {{lr: 1.0e-3}}
schedule: {{epochs: 4}}
augment: {{auto_augment: rand-m9-mstd0.5-inc1, mixup: 0.8, cutmix: 1.0, erase: 0.5}}
"""
EPOCH = 3


@pytest.fixture
def config(tmp_path, image_folder):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.format(root=image_folder))
    return path


def dump(config, folder, *arguments):
    command = ["--config", str(config), "--epoch", str(EPOCH), "--dump", str(folder), *arguments]
    assert preview_batches.main(command) == 0
    lines = (folder / "draws.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def replayed(record, folder, fill):
    """The picture, by PIL and timm alone."""
    path = next(folder.glob(f"{record['key']}.*"))
    top, left, height, width = record["box"]
    bicubic = record["interpolation"] == "bicubic"
    image = Image.open(path).convert("RGB").crop((left, top, left + width, top + height))
    image = image.resize(
        (32, 32), Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    )
    image = ImageOps.mirror(image) if record["flip"] else image
    for operation in record["ops"]:
        options = {}
        if operation["resample"] is not None:
            resample = Image.Resampling[operation["resample"].upper()]
            options = {"resample": resample, "fillcolor": fill}
        args = () if operation["arg"] is None else (operation["arg"],)
        image = timm_auto_augment.NAME_TO_OP[operation["name"]](image, *args, **options)
    return np.asarray(image)


@pytest.mark.parametrize("loader", ["host", "reference"])
def test_the_dump_alone_makes_the_same_pixels(config, image_folder, tmp_path, loader):
    records = dump(config, tmp_path / "out", "--samples", "0:62", f"data.loader={loader}")
    assert [record["sample"] for record in records] == list(range(62))
    assert sum(len(record["ops"]) for record in records) > 30
    run, _ = drawn.drawn_run(yaml_config.load(Recipe, config, []))
    fill = tuple(min(255, round(255 * value)) for value in run.spec.mean)
    for record in records:
        if any(op["name"].startswith("Posterize") and op["arg"] < 1 for op in record["ops"]):
            continue  # Pillow 13 refuses what was black before
        found = np.asarray(Image.open(tmp_path / "out" / f"{record['sample']}_{EPOCH}.png"))
        np.testing.assert_array_equal(found, replayed(record, image_folder / "train", fill))


def test_numbers_do_not_depend_on_what_else_is_asked_for(config, tmp_path):
    whole = dump(config, tmp_path / "a", "--samples", "0:62", "--draws-only")
    some = dump(config, tmp_path / "b", "--samples", "9,3,30:33", "--draws-only")
    assert some == [whole[i] for i in (9, 3, 30, 31, 32)]
    assert not list((tmp_path / "b").glob("*.png"))


@pytest.mark.parametrize("mode", ["pair", "elem", "batch"])
def test_what_is_said_of_mixing_and_erasing_is_what_the_transform_does(config, tmp_path, mode):
    override = f"augment.mix_mode={mode}"
    recipe = yaml_config.load(Recipe, config, [override])
    run, num_classes = drawn.drawn_run(recipe)
    draws = run.order(EPOCH)[6:12]
    (batch,) = drawn.loaded(run, draws, EPOCH, at_once=6)
    transform = BatchTransform(run.augment, spec=run.spec, num_classes=num_classes, seed=run.seed)
    images, targets = transform.train(batch, EPOCH)
    labels = open_source(tmp_path / run.data.root / "train").labels
    plain = transform.evaluate(batch)
    partners = {int(sample): position for position, sample in enumerate(draws)}
    for i, record in enumerate(run.records(draws, EPOCH)):
        weight, partner = record["weight"], record["partner"]
        expected = torch.zeros(num_classes)
        expected[record["label"]] += weight
        expected[int(labels[partner])] += 1 - weight
        torch.testing.assert_close(targets[i], expected)
        if record["cutmix_box"] is not None and record["cutmix_box"][2] * record["cutmix_box"][3]:
            top, left, height, width = record["cutmix_box"]
            # One pixel of the pasted box that neither image has erased.
            other = next(r for r in run.records(draws[[partners[partner]]], EPOCH))
            pixels = np.zeros((32, 32), bool)
            pixels[top : top + height, left : left + width] = True
            for up, start, high, wide in other["erase"]:
                pixels[up : up + high, start : start + wide] = False
            rows, columns = np.nonzero(pixels)
            pasted = plain[partners[partner]][:, rows, columns]
            torch.testing.assert_close(images[i][:, rows, columns], pasted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "62"], "sample 62: the training set has samples 0 to 61"),
        (["--samples", "1:x"], "expected numbers such as 3,17,20:40, got '1:x'"),
        (["--draws-only"], "no effect without --dump"),
    ],
)
def test_bad_arguments_get_an_answer(config, capsys, arguments, message):
    try:
        code = preview_batches.main(["--config", str(config), *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_dump_replaces_another_with_force_and_mixes_with_nothing(
    config, image_folder, tmp_path, capsys
):
    command = ["--config", str(config), "--draws-only", "--samples", "3"]
    folder = tmp_path / "dump"
    dump(config, folder, "--samples", "1:4", "--draws-only")
    before = (folder / "draws.jsonl").read_bytes()
    assert preview_batches.main([*command, "--dump", str(folder)]) == exits.OUTPUT
    assert "exists; name another --dump, or add --force" in capsys.readouterr().err
    assert (folder / "draws.jsonl").read_bytes() == before
    assert preview_batches.main([*command, "--dump", str(folder), "--force"]) == 0
    assert (folder / "draws.jsonl").read_bytes() != before
    for place in (image_folder, image_folder / "train", tmp_path):
        assert preview_batches.main([*command, "--dump", str(place), "--force"]) == exits.OUTPUT
        assert f"{place}: holds other things, such as " in capsys.readouterr().err
        assert not (place / "draws.jsonl").exists()
