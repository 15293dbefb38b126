"""The command line of tools/convert_checkpoint.py: what it writes, says and refuses."""

import re

import pytest
import timm
from safetensors import safe_open
from safetensors.torch import load_file

from models.weights.checkpoint_files import WeightsError, read_weights
from models.weights.checkpoints import convert
from tests.support.small_checkpoints import NAME, assert_same, save, weights_of
from tools import convert_checkpoint
from tools.cli import exits


@pytest.fixture(scope="module")
def weights():
    return weights_of(seed=1)


def test_an_existing_output_is_kept_unless_forced(weights, tmp_path, capsys):
    source = save(weights, tmp_path / "a.pth")
    output = tmp_path / "a.safetensors"
    output.write_bytes(b"mine")
    arguments = [str(source), "--model", NAME]
    assert convert_checkpoint.main(arguments) == exits.OUTPUT
    assert f"{output}: exists; name another --output" in capsys.readouterr().err
    assert output.read_bytes() == b"mine"
    assert convert_checkpoint.main([*arguments, "--force"]) == 0
    assert_same(load_file(output), weights)
    again = [str(output), "--model", NAME]
    for options in ([], ["--force"]):
        assert convert_checkpoint.main([*again, *options]) == exits.OUTPUT
        assert "is the input; name another file with --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--output", "no/such/a.safetensors"), "no/such: no such folder"),
        (("--img-size", "1"), "img_size 1x1 is too small"),
    ],
)
def test_what_cannot_be_written_is_refused(weights, tmp_path, capsys, options, message):
    arguments = [str(save(weights, tmp_path / "a.pth")), "--model", NAME, *options]
    assert convert_checkpoint.main(arguments) == exits.BAD_INPUT
    assert message in capsys.readouterr().err
    for sizes in (("48", "99", "40"), ("0",)):
        with pytest.raises(SystemExit):
            convert_checkpoint.main([*arguments[:3], "--img-size", *sizes])


def test_a_file_that_was_cut_off_and_a_name_that_timm_would_not_load_are_refused(
    weights, tmp_path, capsys
):
    path = save(weights, tmp_path / "a.pth")
    arguments = [str(path), "--model", NAME, "--output"]
    assert convert_checkpoint.main([*arguments, str(tmp_path / "b.bin")]) == 2
    assert (
        "b.bin: would not be what its suffix says; name it .safetensors" in capsys.readouterr().err
    )
    path.write_bytes(path.read_bytes()[:50_000])
    assert convert_checkpoint.main([*arguments, str(tmp_path / "b.safetensors")]) == 2
    assert "a.pth: not a readable checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["convmixer_256_8", "convmixer_1024_20_ks9_p14"])
def test_the_size_of_a_model_of_every_size_is_checked_and_said(name, tmp_path, capsys):
    stored = str(save(timm.create_model(name).state_dict(), tmp_path / "a.pth"))
    arguments = [stored, "--model", name, "--img-size"]
    assert convert_checkpoint.main([*arguments, "1"]) == exits.BAD_INPUT
    assert re.search(r"1x1 .*(too small|smaller than)", capsys.readouterr().err)
    assert convert_checkpoint.main([*arguments, "64", "80"]) == 0
    assert "64x80 pixels" in capsys.readouterr().out


def test_a_missing_file_is_named(tmp_path, capsys):
    arguments = [str(tmp_path / "none.pth"), "--model", NAME]
    assert convert_checkpoint.main(arguments) == exits.BAD_INPUT
    assert "none.pth: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("model.pth", "a folder; name the checkpoint's file in it"),
        ("checkpoints/step_1/meta.json", "a run's folder, whose weights need no conversion"),
        ("meta.json", "a run's folder, whose weights need no conversion"),
    ],
)
def test_a_folder_is_no_checkpoint_file(tmp_path, capsys, inside, message):
    folder = tmp_path / "given"
    (folder / inside).parent.mkdir(parents=True)
    (folder / inside).write_bytes(b"")
    assert convert_checkpoint.main([str(folder), "--model", NAME]) == exits.BAD_INPUT
    assert f"{folder}: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("theirs", "ours", "arguments", "said"),
    [
        ("gfnet-ti", "gfnet_ti", {}, "gfnet_ti, 7,255,298 parameters, 2 classes"),
        ("T2t_vit_7", "eamlp_7", {}, "eamlp_7, 5,890,152 parameters, 2 classes"),
        ("convmlp_s_classification", "convmlp_s", {}, "convmlp_s, 8,510,946 parameters"),
        ("lvvit", "lvvit_s", {"aux_head": False}, "lvvit_s with aux_head=False, 25,382,594 param"),
    ],
)
def test_authors_names_stand_for_ours(theirs, ours, arguments, said, tmp_path, capsys):
    weights = timm.create_model(ours, num_classes=2, **arguments).state_dict()
    source, output = save(weights, tmp_path / "a.pth"), tmp_path / "a.safetensors"
    assert convert_checkpoint.main([str(source), "--model", theirs]) == 0
    assert f"{output}: {said}" in capsys.readouterr().out
    assert_same(load_file(output), weights)
    with safe_open(output, "pt") as file:
        assert file.metadata()["model"] == ours


def test_channels_without_a_first_convolution_are_an_argument(tmp_path):
    stored = read_weights(
        save(timm.create_model("eamlp_7", in_chans=1).state_dict(), tmp_path / "a.pth")
    )
    with pytest.raises(WeightsError, match=r"of another shape .*norm1\.weight .*arguments=\{"):
        convert(stored, "eamlp_7")
    _, model = convert(stored, "eamlp_7", arguments={"in_chans": 1})
    assert model.in_chans == 1
