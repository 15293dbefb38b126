"""Exported models compute what the run's weights compute, in the programs that load them."""

import json

import onnx
import onnxruntime
import pytest
import timm
import torch
from safetensors import safe_open

import models
from models.weights.description import description_from_metadata
from tests.support.pictures import CLASSES
from tests.support.trained_models import NAME, describe, same, small_model, write_run
from tools import export_weights, validate
from tools.cli.model_options import ModelChoice
from tools.trained.load import load

RTOL = 1e-3
"""ONNX's and the exported program's sums have another order in float32."""


@pytest.fixture(scope="module")
def run(tmp_path_factory, image_folder):
    return write_run(tmp_path_factory.mktemp("export"), image_folder)


def export(run, output, *options):
    return export_weights.main([str(run), "--output", str(output), *options])


def images(batch):
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def assert_close(found, model, batch):
    expected = model(batch).detach()
    assert (found - expected).abs().max() < RTOL * expected.abs().max()


def test_a_hub_folder_loads_as_a_local_dir(run, tmp_path):
    folder = tmp_path / "digits"
    assert export(run, folder, "--format", "hub") == 0
    assert NAME in models.names()
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert same(again, small_model(seed=102))
    assert again.pretrained_cfg["input_size"] == (3, 32, 32)
    config = json.loads((folder / "config.json").read_text())
    assert config["label_names"] == list(CLASSES)
    assert config["label_descriptions"]["n01440764"] == "tench, Tinca tinca"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["digits"]


def test_the_card_says_result_recipe_and_data(run, tmp_path):
    assert export(run, tmp_path / "digits", "--format", "hub", "--best") == 0
    card = (tmp_path / "digits" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    assert "Top-1 89.00 %" in card
    assert "import models" in card
    assert "lr: 0.001" in card
    assert "deepspeed launch.py" in card


def test_what_is_exported_is_a_model_for_the_other_tools(run, image_folder, tmp_path, capsys):
    export(run, tmp_path / "hub", "--format", "hub")
    export(run, tmp_path / "timm.safetensors")
    figures = []
    for model in (run, tmp_path / "hub", tmp_path / "timm.safetensors"):
        capsys.readouterr()
        options = ["--data", str(image_folder), "--loader", "reference", "--json"]
        assert validate.main([str(model), *options]) == 0
        figures.append(json.loads(capsys.readouterr().out))
        del figures[-1]["weights"]
    assert figures[0] == figures[1] == figures[2]


def test_safetensors_describe_themselves(run, tmp_path):
    file = tmp_path / "digits.safetensors"
    assert export(run, file, "--raw", "--best") == 0
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
    described = describe(small_model())
    assert description_from_metadata(metadata) == described.__class__(
        **{**_fields(described), "arguments": {"img_size": 32}}
    )
    assert (metadata["weights"], metadata["step"]) == ("raw", "1")
    again = timm.create_model(NAME, num_classes=5, checkpoint_path=str(file))
    assert same(again, small_model(seed=1))


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("x.safetensors", ()),
        ("x.safetensors", ("--img-size", "64")),
        ("it's.onnx", ("--format", "onnx")),
        ("x.pt2", ("--format", "torch")),
        ("x", ("--format", "hub")),
    ],
    ids=" ".join,
)
def test_the_line_that_is_printed_loads_what_was_written(run, tmp_path, capsys, output, options):
    size = 64 if "--img-size" in options else 32
    assert export(run, tmp_path / output, *options) == 0
    said, line = capsys.readouterr().out.splitlines()[-2:]
    assert said == "load it with:"
    names = {}
    exec(line.strip(), names)  # it is what users are told to run
    batch = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(5))
    expected = load(ModelChoice(kind="run", text=str(run), img_size=size)).model
    if "session" in names:
        (found,) = names["session"].run(None, {"images": batch.numpy()})
        assert_close(torch.from_numpy(found), expected, batch)
    else:
        model = names["model"] if output == "x.pt2" else names["model"].eval()
        assert_close(model(batch), expected, batch)


def _fields(described):
    return {name: getattr(described, name) for name in ("name", "arguments", "classes", "input")}


@pytest.mark.parametrize("batch", [1, 5])
def test_onnxruntime_computes_the_same_for_any_batch(run, tmp_path, batch):
    file = tmp_path / "digits.onnx"
    assert export(run, file, "--format", "onnx") == 0
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"images": images(batch).numpy()})
    assert_close(torch.from_numpy(found), small_model(seed=102), images(batch))
    said = {prop.key: prop.value for prop in onnx.load(file).metadata_props}
    assert json.loads(said["classes"]) == list(CLASSES)
    assert json.loads(said["input"])["mean"] == list(describe(small_model()).input.mean)


def test_the_exported_program_computes_the_same_for_any_batch(run, tmp_path):
    file = tmp_path / "digits.pt2"
    assert export(run, file, "--format", "torch") == 0
    extra = {"description.json": ""}
    program = torch.export.load(file, extra_files=extra).module()
    assert json.loads(json.loads(extra["description.json"])["classes"]) == list(CLASSES)
    for batch in (1, 7):
        assert_close(program(images(batch)), small_model(seed=102), images(batch))


@pytest.mark.parametrize(
    ("output", "options", "expected"),
    [
        ("x.onnx", [], "add --format onnx"),
        ("x.pth", [], "name it .safetensors"),
        ("x.safetensors", ["--format", "onnx"], "--format timm"),
        ("x.safetensors", ["--format", "hub"], "leave the suffix out"),
        ("nowhere/x.safetensors", [], "no such folder"),
    ],
)
def test_a_suffix_that_lies_is_refused(run, tmp_path, capsys, output, options, expected):
    assert export(run, tmp_path / output, *options) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["timm", "hub"])
def test_what_exists_is_replaced_with_force_alone(run, tmp_path, capsys, kind):
    output = tmp_path / ("x.safetensors" if kind == "timm" else "x")
    options = ("--format", kind)
    assert export(run, output, "--best", *options) == 0
    file = output if kind == "timm" else output / "model.safetensors"
    before = file.read_bytes()
    assert export(run, output, *options) == 73
    assert "--force" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert export(run, output, *options, "--force") == 0
    assert file.read_bytes() != before


def test_a_folder_with_other_files_is_not_removed(run, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    assert export(run, folder, "--format", "hub", "--force") == 73
    assert "thesis.tex" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.tex"]


def test_another_image_size_goes_along(run, tmp_path):
    assert export(run, tmp_path / "big", "--format", "hub", "--img-size", "64") == 0
    again = timm.create_model(f"local-dir:{tmp_path / 'big'}", pretrained=True)
    assert again(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
