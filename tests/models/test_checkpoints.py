"""Every layout in which the models were published is read, safely, or refused in words."""

import argparse
import datetime
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from models.weights.checkpoint_files import WeightsError, read_weights
from models.weights.checkpoints import convert
from tests.support import authors_weights
from tests.support.small_checkpoints import NAME, assert_same, save, weights_of
from tools import convert_checkpoint

CONVMIXER = "convmixer_256_8"


@pytest.fixture(scope="module")
def weights():
    return weights_of(seed=1)


@pytest.fixture(scope="module")
def averaged():
    return weights_of(seed=2)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize(
    ("raw_entry", "averaged_entry"), [("state_dict", "state_dict_ema"), ("model", "model_ema")]
)
def test_averaged_weights_are_preferred(
    weights, averaged, raw_entry, averaged_entry, prefix, tmp_path
):
    content = authors_weights.checkpoint("dynamixer_s", weights={})
    content = {key: value for key, value in content.items() if not key.startswith("state_dict")}
    content[raw_entry] = {prefix + key: value for key, value in weights.items()}
    content[averaged_entry] = {prefix + key: value for key, value in averaged.items()}
    path = save(content, tmp_path / "model_best.pth.tar")
    assert read_weights(path).entry == averaged_entry
    assert_same(read_weights(path).weights, averaged)
    assert read_weights(path, raw=True).entry == raw_entry
    assert_same(read_weights(path, raw=True).weights, weights)


@pytest.mark.parametrize("averaged_entry", [{}, {"state_dict_ema": None}])
def test_raw_weights_serve_where_there_is_no_average(weights, averaged_entry, tmp_path):
    path = save({"state_dict": weights, **averaged_entry}, tmp_path / "last.pth.tar")
    assert_same(read_weights(path).weights, weights)


def test_plain_state_dicts_and_safetensors_are_read(weights, tmp_path):
    assert_same(read_weights(save(weights, tmp_path / "plain.pth")).weights, weights)
    save_file(weights, tmp_path / "plain.safetensors")
    assert_same(read_weights(tmp_path / "plain.safetensors").weights, weights)
    legacy = tmp_path / "legacy.pth"
    torch.save(weights, legacy, _use_new_zipfile_serialization=False)
    assert_same(read_weights(legacy).weights, weights)


def test_the_output_is_what_timm_loads(weights, tmp_path, capsys):
    source = save({"state_dict": weights}, tmp_path / "last.pth.tar")
    before = source.read_bytes()
    assert convert_checkpoint.main([str(source), "--model", NAME]) == 0
    output = tmp_path / "last.pth.safetensors"
    said = capsys.readouterr().out
    assert f"{output}: dynamixer_nano, 508,100 parameters, 4 classes, 32x32 pixels" in said
    model = timm.create_model(NAME, num_classes=4, checkpoint_path=output)
    assert_same(model.state_dict(), weights)
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, source.name]


def test_conversion_resamples_for_another_image_size(weights, tmp_path):
    source, output = save(weights, tmp_path / "a.pth"), tmp_path / "b.safetensors"
    arguments = ["--img-size", "48", "40", "--out", str(output)]
    assert convert_checkpoint.main([str(source), "--model", NAME, *arguments]) == 0
    # timm resamples while it loads; the file has it done already.
    settings = {"num_classes": 4, "img_size": (48, 40)}
    resampled = timm.create_model(NAME, checkpoint_path=source, **settings)
    assert_same(load_file(output), resampled.state_dict())


def sequential_layout(key, depth):
    """ConvMixer as its authors released it: one Sequential of stem, blocks, pooling and head."""
    key = re.sub(r"^stem\.", "", key)
    key = re.sub(r"^blocks\.(\d+)", lambda found: str(3 + int(found[1])), key)
    return re.sub(r"^head", str(depth + 5), key)


def notebook_layout(key, depth):
    """ConvMixer as SplitMixer's notebook has it, with both of its tricks off."""
    found = re.fullmatch(r"blocks\.(\d+)\.(0\.fn|1|3)\.(.*)", key)
    if found is None:
        return re.sub(r"^stem", "patch_emb", key)
    number, part = {"0.fn": (0, "fn"), "1": (1, "0"), "3": (1, "2")}[found[2]]
    return f"mixer_blocks.{2 * int(found[1]) + number}.{part}.{found[3]}"


def timm_layout(key, depth):
    return key


@pytest.mark.parametrize("layout", [timm_layout, sequential_layout, notebook_layout])
@pytest.mark.parametrize("name", [CONVMIXER, "convmixer_1024_20_ks9_p14"])
def test_convmixers_three_layouts_give_one_model(name, layout, tmp_path):
    theirs = name != CONVMIXER
    published = name if theirs else "convmixer_256_8_cifar10"
    keys = authors_weights.KEYS[published]
    # Names are the matter here: each entry has a value of its own.
    entries = {
        key: torch.full(shape, float(number)) for number, (key, shape) in enumerate(keys.items())
    }
    renamed = {layout(key, 20 if theirs else 8): value for key, value in entries.items()}
    assert (renamed.keys() == entries.keys()) == (layout is timm_layout)
    weights, model = convert(read_weights(save(renamed, tmp_path / "a.pth")), name)
    if theirs:
        assert_same(weights, entries)
    # The order of entries is the order of parts in every layout.
    assert [value.flatten()[0].item() for value in weights.values()] == list(range(len(keys)))
    assert list(model.state_dict()) == list(weights)


class Executed:
    """What a hostile pickle would do is call something of its own choice."""

    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize(
    ("hostile", "what"),
    [(Executed(), "print"), (datetime.date(2024, 1, 1), r"datetime\.date")],
)
def test_arbitrary_objects_are_refused(weights, hostile, what, tmp_path, capsys):
    path = save({"state_dict": weights, "args": hostile}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=rf"a\.pth: refused, because it holds .* type {what}"):
        read_weights(path)
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"a\.pth: there are no weights in it"),
        ({"state_dict": {"epoch": 3}}, r"expected weights by .*, but 'epoch' is a int; known are"),
        ({1: torch.zeros(1)}, r"expected weights by their names, but 1 is a Tensor"),
        ([torch.zeros(1)], r"a\.pth: expected a dictionary, got a list"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        read_weights(save(content, tmp_path / "a.pth"))


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"\x1f\x8b\x08zip", b"PK\3\4", b"\x80\2"]
)
def test_damaged_files_are_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{re.escape(name)}: "):
        read_weights(tmp_path / name)


def test_what_training_scripts_put_beside_the_weights_is_read_over(weights, tmp_path):
    args = argparse.Namespace(output=Path("runs"), lr=np.float32(0.1))
    content = {"metric": np.float64(0.5), "epoch": np.int64(3), "args": args}
    path = save({"state_dict_ema": {}, "state_dict": weights, **content}, tmp_path / "a.pth")
    assert read_weights(path).entry == "state_dict"
    averaged = {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in weights.items()}
    assert_same(read_weights(save(averaged, tmp_path / "b.pth")).weights, weights)


def test_safetensors_need_not_be_called_so(weights, tmp_path):
    save_file(weights, tmp_path / "weights.bin")
    assert_same(read_weights(tmp_path / "weights.bin").weights, weights)


def test_raw_weights_that_are_not_there_are_not_offered(weights, tmp_path):
    path = save({"state_dict_ema": weights}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a moving average alone, state_dict_ema; take it"):
        read_weights(path, raw=True)


def test_channels_and_a_missing_classifier_are_read_from_the_weights(tmp_path):
    model = timm.create_model(NAME, in_chans=1, num_classes=0)
    stored = read_weights(save(model.state_dict(), tmp_path / "a.pth"))
    weights, made = convert(stored, NAME)
    assert_same(weights, model.state_dict())
    assert made(torch.zeros(2, 1, 32, 32)).shape == (2, 128)


def test_a_model_trained_with_other_arguments_is_converted_with_them(tmp_path):
    arguments = {"generator": "random", "reweight": False}
    model = timm.create_model(NAME, **arguments)
    stored = read_weights(save(model.state_dict(), tmp_path / "a.pth"))
    with pytest.raises(WeightsError, match=r"other arguments .* arguments=\{"):
        convert(stored, NAME)
    assert_same(convert(stored, NAME, arguments=arguments)[0], model.state_dict())


def test_one_block_of_another_grid_is_misshapen_and_all_are_resampled_aloud(tmp_path, caplog):
    name = "vip_s14"
    small = timm.create_model(name, depths=(1, 1, 1, 1), img_size=252)
    arguments = {"depths": (1, 1, 1, 1)}
    stored = read_weights(save(small.state_dict(), tmp_path / "a.pth"))
    convert(stored, name, arguments=arguments)
    assert "a.pth: made for another image size than 224x224; 8 weights" in caplog.text
    weights = timm.create_model(name, **arguments).state_dict()
    weights["network.1.0.attn.mlp_h.weight"] = torch.randn(432, 432)
    stored = read_weights(save(weights, tmp_path / "b.pth"))
    with pytest.raises(
        WeightsError, match=r"1 of another shape \(network\.1\.0\.attn\.mlp_h\.weight"
    ):
        convert(stored, name, arguments=arguments)


def test_missing_unexpected_and_misshapen_keys_are_named(weights, tmp_path):
    wrong = {key: value for key, value in weights.items() if not key.startswith("norm.")}
    wrong["extra.weight"] = torch.zeros(1)
    wrong["network.0.0.mlp.fc1.weight"] = torch.zeros(5, 64)
    with pytest.raises(WeightsError) as refused:
        convert(read_weights(save(wrong, tmp_path / "a.pth")), NAME)
    said = str(refused.value)
    assert said.startswith(f"{tmp_path / 'a.pth'} is not a checkpoint of dynamixer_nano: ")
    assert "2 missing (norm.weight, norm.bias); 1 unexpected (extra.weight); " in said
    assert "network.0.0.mlp.fc1.weight (5, 64), the model's is (192, 64)" in said
    assert "Name the variant that it was trained as; if it was trained with other arguments" in said


def test_a_checkpoint_of_another_model_is_refused(weights, tmp_path):
    stored = read_weights(save(weights, tmp_path / "a.pth"))
    with pytest.raises(WeightsError, match=r"not a checkpoint of splitmixer_i_256_8: .* more\)"):
        convert(stored, "splitmixer_i_256_8")
    with pytest.raises(WeightsError, match="unknown variant 'dynamixer_micro'; did you mean"):
        convert(stored, "dynamixer_micro")
