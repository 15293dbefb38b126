"""`tools/make_token_labels.py`: maps are the annotator's own words, place by place."""

import os

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from PIL.Image import Resampling

from models.weights.checkpoint_files import WeightsError
from pipeline.formats.open import open_source
from pipeline.formats.token_label_file import TokenLabelFile
from tests.support.pictures import CLASSES
from tests.support.small_models import make, randomise
from tests.support.trained_models import small_model, write_run
from tools import make_token_labels
from tools.trained.dense import dense_logits

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def timm_model(name, **settings):
    return randomise(timm.create_model(name, num_classes=7, **settings)).eval()


@pytest.mark.parametrize("name", ["resnet10t", "test_nfnet", "test_byobnet"])
def test_the_mean_over_places_is_the_answer_where_the_head_is_linear(name):
    model = timm_model(name)
    found = dense_logits(model, IMAGES)
    assert found.shape[1] == 7
    assert found.shape[2] * found.shape[3] > 1
    with torch.no_grad():
        torch.testing.assert_close(found.mean((2, 3)), model(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["dynamixer_nano", "convmixer_256_8"])
def test_our_models_answer_for_each_of_their_tokens(name):
    model = randomise(make(name)).eval()
    images = torch.randn(2, 3, *timm.data.resolve_model_data_config(model)["input_size"][1:])
    if hasattr(model, "img_size"):
        images = torch.randn(2, 3, *model.img_size)
    with torch.no_grad():
        expected = model(images)
    found = dense_logits(model, images)
    assert found.shape[2] * found.shape[3] > 1
    torch.testing.assert_close(found.mean((2, 3)), expected, rtol=1e-4, atol=1e-4)


def test_heads_with_a_norm_after_pooling_normalise_each_place():
    model = timm_model("test_convnext")
    found = dense_logits(model, IMAGES)
    with torch.no_grad():
        features = model.forward_features(IMAGES)
        place = model.forward_head(features[:, :, 1:2, 0:1])
    torch.testing.assert_close(found[:, :, 1, 0], place, rtol=1e-4, atol=1e-4)


def test_tokens_whose_mean_is_classified_are_asked_one_by_one():
    model = timm_model("test_vit", global_pool="avg", img_size=64)
    found = dense_logits(model, IMAGES)
    side = model.patch_embed.grid_size[0]
    with torch.no_grad():
        tokens = model.forward_features(IMAGES)[:, model.num_prefix_tokens :]
        expected = model.head(model.fc_norm(tokens)).transpose(1, 2).unflatten(2, (side, side))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_lvvit_answers_with_its_classifier_of_tokens():
    model = randomise(make("lvvit_t", img_size=(48, 80))).eval()
    images = torch.randn(2, 3, 48, 80)
    with torch.no_grad():
        tokens = model(images, mixed=torch.zeros(3, 5, dtype=torch.bool))[1]
    found = dense_logits(model, images)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), tokens)


def test_a_classifier_of_the_class_token_is_refused_in_words():
    with pytest.raises(WeightsError, match=r"reads its class token, .*; use a model that averages"):
        dense_logits(timm_model("test_vit", img_size=64), IMAGES)


@pytest.fixture(scope="module")
def run(tmp_path_factory, image_folder):
    return write_run(tmp_path_factory.mktemp("annotator"), image_folder)


def label(run, image_folder, output, *options):
    arguments = [run, "--data", image_folder, "--output", output, "--loader", "reference"]
    return make_token_labels.main([*map(str, arguments), "--device", "cpu", *options])


@pytest.fixture(scope="module")
def made(tmp_path_factory, run, image_folder):
    output = tmp_path_factory.mktemp("made") / "train.token_labels"
    assert label(run, image_folder, output, "--batch-size", "8", "--top", "3") == 0
    return output


@pytest.mark.parametrize("view", ["whole", "centre"])
def test_maps_are_the_annotator_s_answers_on_the_view(view, made, run, image_folder, tmp_path):
    path = made
    if view == "centre":
        path = tmp_path / "train.token_labels"
        assert label(run, image_folder, path, "--view", view, "--top", "3") == 0
    model = small_model(seed=102)  # the newest average
    config = timm.data.resolve_model_data_config(model)
    size = config["input_size"][1]
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    source = open_source(image_folder / "train")
    file = TokenLabelFile(path)
    assert file.header.view == view
    for index in (0, 30, 61):
        key = source.read_many([index])[0].key
        picture = next((image_folder / "train").rglob(f"{key.rpartition('/')[2]}*"))
        image = Image.open(picture).convert("RGB")
        if view == "centre":
            config["crop_pct"] = 1.0
            pixels = timm.data.create_transform(**config)(image)
        else:
            filters = {"bilinear": Resampling.BILINEAR, "bicubic": Resampling.BICUBIC}
            image = image.resize((size, size), filters[config["interpolation"]])
            pixels = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - mean) / std
        best = dense_logits(model, pixels[None]).topk(3, dim=1)
        record = file.read(np.array([index]))
        assert np.array_equal(record["classes"], best.indices.numpy())
        assert np.allclose(record["logits"], best.values.numpy(), rtol=2e-3, atol=2e-3)
    assert file.header.classes == CLASSES


def test_a_killed_tool_goes_on_to_the_same_bytes(made, run, image_folder, tmp_path):
    path, header = tmp_path / "train.token_labels", TokenLabelFile(made).header
    whole = made.read_bytes()
    kept = header.start + 21 * header.record.itemsize + 5
    part = path.with_name(path.name + ".part")
    part.write_bytes((header.beginning(0) + whole[header.start :])[:kept])
    assert label(run, image_folder, path, "--batch-size", "8", "--top", "3") == 0
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_mistakes_are_told_with_their_exit_codes(made, run, image_folder, tmp_path, capsys):
    assert label(run, image_folder, made) == 73
    assert "exists; name another --output, or add --force" in capsys.readouterr().err
    assert label(run, image_folder, tmp_path / "labels.npy") == 2
    assert "name it .token_labels" in capsys.readouterr().err
    begun = tmp_path / "train.token_labels"
    begun.with_name(begun.name + ".part").write_bytes(TokenLabelFile(made).header.beginning(0))
    assert label(run, image_folder, begun, "--view", "centre") == 73
    assert "was begun with another annotator, view or data" in capsys.readouterr().err


OPTIONS = ("--batch-size", "8", "--top", "3")


def test_parts_joined_are_the_file_of_one_process(made, run, image_folder, tmp_path, capsys):
    """Of 62 images in 8 batches three parts have 3, 3 and 2; the last one is not full."""
    path = tmp_path / "train.token_labels"
    for number in (2, 0):
        assert label(run, image_folder, path, *OPTIONS, "--part", f"{number}/3") == 0
    assert label(run, image_folder, path, *OPTIONS, "--merge") == 2
    error = capsys.readouterr().err
    assert "1-of-3.part: this part is missing; run --part 1/3 again" in error
    assert label(run, image_folder, path, *OPTIONS, "--part", "1/3") == 0
    assert not path.exists()

    part = tmp_path / "train.token_labels.1-of-3.part"
    whole, size = part.read_bytes(), TokenLabelFile(made).header.record.itemsize
    os.truncate(part, len(whole) - size - 1)  # killed while it wrote
    assert label(run, image_folder, path, *OPTIONS, "--merge") == 2
    assert f"{part}: has 20 maps of 22; run --part 1/3 again" in capsys.readouterr().err
    assert label(run, image_folder, path, *OPTIONS, "--part", "1/3") == 0
    assert part.read_bytes() == whole

    header = TokenLabelFile(made).header
    begun = header.beginning(0) + made.read_bytes()[header.start :][: 11 * size]
    path.with_name(path.name + ".part").write_bytes(begun)  # killed while it joined
    assert label(run, image_folder, path, *OPTIONS, "--merge") == 0
    assert path.read_bytes() == made.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_parts_that_do_not_fit_together_are_refused(run, image_folder, tmp_path, capsys):
    path = tmp_path / "train.token_labels"
    assert label(run, image_folder, path, *OPTIONS, "--merge") == 2
    assert "no part of it is here" in capsys.readouterr().err
    for part in ("0/2", "1/2"):
        assert label(run, image_folder, path, *OPTIONS, "--part", part) == 0
    # With 16 at once part 0 would have 32 maps, as it has: only the maps' own numbers tell.
    assert label(run, image_folder, path, "--batch-size", "16", "--top", "3", "--merge") == 2
    assert "sample 8 is damaged, or was made with another --batch-size" in capsys.readouterr().err
    (tmp_path / "train.token_labels.part").unlink()
    assert label(run, image_folder, path, *OPTIONS, "--view", "centre", "--part", "1/2") == 73
    assert "was begun with another annotator, view or data" in capsys.readouterr().err
    (tmp_path / "train.token_labels.1-of-2.part").unlink()
    assert label(run, image_folder, path, *OPTIONS, "--view", "centre", "--part", "1/2") == 0
    assert label(run, image_folder, path, *OPTIONS, "--merge") == 2
    assert "was made by another annotator, or with other options" in capsys.readouterr().err
    assert label(run, image_folder, path, *OPTIONS, "--part", "0/9") == 0
    assert label(run, image_folder, path, *OPTIONS, "--merge") == 73
    assert "there are parts of 2 and of 9" in capsys.readouterr().err
