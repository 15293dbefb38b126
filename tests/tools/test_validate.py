"""`tools/validate.py`: its figures are those of plain PIL and timm; mistakes are told at once."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform

from models.weights.description import description_from_metadata
from tests.support.forks import ROOT
from tests.support.pictures import CLASSES
from tests.support.trained_models import NAME, describe, small_model, write_run
from tools import validate
from tools.trained.ranks import _place

# DALI and PIL differ by a level or two of 255 in some pixels.
PIXEL_TOLERANCE = 0.05


@pytest.fixture(scope="module")
def run(tmp_path_factory, image_folder):
    return write_run(tmp_path_factory.mktemp("validate"), image_folder)


@pytest.fixture(scope="module")
def expected(image_folder):
    """Logits and labels of the newest average, by PIL's and timm's own code, image by image."""
    model = small_model(seed=102)
    transform = create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    paths = sorted((image_folder / "val").rglob("*.JPEG"), key=str)
    with torch.no_grad():
        logits = [model(transform(Image.open(p).convert("RGB"))[None])[0] for p in paths]
    labels = torch.tensor([CLASSES.index(path.parent.name) for path in paths])
    return torch.stack(logits), labels


def measure(capsys, *arguments) -> dict[str, float]:
    code = validate.main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_the_count_is_that_of_plain_pil_and_timm(run, expected, capsys):
    logits, labels = expected
    found = measure(capsys, run, "--loader", "reference")
    assert found["count"] == len(labels) == 22
    assert found["top1_count"] == int((logits.argmax(1) == labels).sum())
    assert found["top5_count"] == 22
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-4)


@pytest.mark.parametrize("mode", ["squash", "border"])
def test_another_crop_mode_is_timms(run, image_folder, capsys, mode):
    model = small_model(seed=102)
    config = timm.data.resolve_model_data_config(model) | {"crop_mode": mode, "crop_pct": 0.8}
    transform = create_transform(**config, is_training=False)
    paths = sorted((image_folder / "val").rglob("*.JPEG"), key=str)
    with torch.no_grad():
        logits = [model(transform(Image.open(p).convert("RGB"))[None])[0] for p in paths]
    labels = torch.tensor([CLASSES.index(path.parent.name) for path in paths])
    loss = torch.nn.functional.cross_entropy(torch.stack(logits), labels)
    options = ("--crop-mode", mode, "--crop-pct", "0.8", "--loader", "reference")
    found = measure(capsys, run, *options)
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert found["crop_mode"] == mode
    assert measure(capsys, run, "--loader", "reference")["loss"] != found["loss"]


def test_dali_differs_by_the_tolerance_of_its_pixels_alone(run, expected, capsys):
    logits, labels = expected
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert measure(capsys, run)["loss"] == pytest.approx(loss.item(), rel=PIXEL_TOLERANCE)


@pytest.mark.parametrize("kind", ["checkpoint", "safetensors", "authors'", "file with a name"])
def test_every_kind_of_model_gives_the_same_figures(kind, run, image_folder, tmp_path, capsys):
    newest = run / "checkpoints" / "step_00000002"
    torch.save({"state_dict": small_model(seed=102).state_dict()}, tmp_path / "authors.pth")
    save_file(small_model(seed=102).state_dict(), tmp_path / "bare.safetensors")
    chosen = {
        "checkpoint": [newest],
        "safetensors": [newest / "ema.safetensors"],
        "authors'": [tmp_path / "authors.pth", "--model", NAME],
        "file with a name": [tmp_path / "bare.safetensors", "--model", NAME],
    }[kind]
    options = ("--data", image_folder, "--loader", "reference")
    found, from_run = (measure(capsys, *model, *options) for model in (chosen, [run]))
    different = {"weights"}
    assert {k: v for k, v in found.items() if k not in different} == {
        k: v for k, v in from_run.items() if k not in different
    }


def test_best_and_raw_choose_other_weights(run, capsys):
    origins = {
        measure(capsys, run, *options)["weights"]
        for options in ([], ["--best"], ["--raw"], ["--best", "--raw"])
    }
    names = {str(Path(origin).relative_to(run / "checkpoints")) for origin in origins}
    steps = ("step_00000001", "step_00000002")
    assert names == {f"{step}/{kind}.safetensors" for step in steps for kind in ("ema", "model")}


def test_a_checkpoint_that_does_not_describe_its_model_takes_the_recipe_s(
    tmp_path, image_folder, run, capsys
):
    old = write_run(tmp_path, image_folder, described=False)
    old_figures, new = (measure(capsys, x, "--loader", "reference") for x in (old, run))
    assert old_figures["loss"] == new["loss"]


def test_a_subset_of_the_classes_is_found_by_name_and_competes_alone(
    run, image_folder, expected, tmp_path, capsys
):
    for name in CLASSES[1:3]:
        shutil.copytree(image_folder / "val" / name, tmp_path / "subset" / name)
    logits, labels = expected
    chosen = (labels == 1) | (labels == 2)
    among_two = logits[chosen][:, 1:3].argmax(1) + 1
    among_all = logits[chosen].argmax(1)
    options = (run, "--data", tmp_path / "subset", "--loader", "reference")
    found = measure(capsys, *options)
    assert found["count"] == int(chosen.sum())
    assert found["competing_classes"] == 2
    assert found["top1_count"] == int((among_two == labels[chosen]).sum())
    found = measure(capsys, *options, "--all-classes")
    assert found["top1_count"] == int((among_all == labels[chosen]).sum())


def test_a_class_map_names_the_outputs(run, image_folder, tmp_path, capsys):
    for label, name in enumerate(CLASSES):
        shutil.copytree(image_folder / "val" / name, tmp_path / "v2" / str(label))
    table = tmp_path / "map.csv"
    rows = "".join(f"{label},{label}\n" for label in range(len(CLASSES)))
    table.write_text(f"wnid,index\n{rows}")
    options = ("--data", tmp_path / "v2", "--loader", "reference")
    assert validate.main([str(run), *map(str, options)]) == 2
    assert "--class-map" in capsys.readouterr().err
    found = measure(capsys, run, *options, "--class-map", table)
    assert found["loss"] == measure(capsys, run, "--loader", "reference")["loss"]


def test_real_labels_decide_where_there_are_any(run, image_folder, expected, tmp_path, capsys):
    logits, _ = expected
    number, rows, right = 0, [], 0
    for label, name in enumerate(CLASSES):
        (tmp_path / "val" / name).mkdir(parents=True)
        for path in sorted((image_folder / "val" / name).iterdir()):
            number += 1
            shutil.copy(path, tmp_path / "val" / name / f"ILSVRC2012_val_{number:08d}.JPEG")
            rows.append([] if number == 1 else [label, (label + 1) % 5])
            right += number > 1 and int(logits[number - 1].argmax()) in rows[-1]
    (tmp_path / "real.json").write_text(json.dumps(rows))
    options = ("--data", tmp_path, "--loader", "reference", "--real-labels", tmp_path / "real.json")
    found = measure(capsys, run, *options)
    assert found["real_count"] == 21
    assert found["real_top1"] == pytest.approx(100 * right / 21)


def test_the_files_agree_with_the_figures(run, expected, tmp_path, capsys):
    logits, labels = expected
    files = {
        name: tmp_path / f"{name}.{suffix}"
        for name, suffix in (
            ("per-class", "csv"),
            ("confusion", "csv"),
            ("calibration", "png"),
            ("predictions", "parquet"),
            ("results-file", "csv"),
        )
    }
    options = [text for name, path in files.items() for text in (f"--{name}", path)]
    found = measure(capsys, run, "--loader", "reference", *options)
    table = pq.read_table(files["predictions"]).to_pydict()
    best = logits.softmax(1).sort(1, descending=True)
    assert table["label"] == [CLASSES[label] for label in labels]
    assert table["class_1"] == [CLASSES[i] for i in best.indices[:, 0]]
    np.testing.assert_allclose(table["probability_2"], best.values[:, 1], rtol=1e-3, atol=1e-6)
    rows = list(csv.reader(files["confusion"].read_text().splitlines()))
    matrix = np.array([row[1:] for row in rows[1:]], int)
    assert matrix.sum(1).tolist() == [4, 3, 5, 4, 6]
    assert matrix.trace() == found["top1_count"]
    classes = list(csv.DictReader(files["per-class"].read_text().splitlines()))
    assert sum(int(row["right"]) for row in classes) == found["top1_count"]
    assert [row["class"] for row in classes] == list(CLASSES)
    (line,) = csv.DictReader(files["results-file"].read_text().splitlines())
    assert float(line["top1"]) == pytest.approx(found["top1"])
    assert float(line["top1_err"]) == pytest.approx(100 - found["top1"])
    for picture in (files["calibration"], files["confusion"].with_suffix(".png")):
        with Image.open(picture) as image:
            assert image.size[0] > 300
    assert measure(capsys, run, "--results-file", files["results-file"])
    assert len(files["results-file"].read_text().splitlines()) == 3


def test_calibration_is_the_definition_s(run, expected, capsys):
    logits, labels = expected
    confidence, predicted = logits.double().softmax(1).max(1)
    error = 0.0
    for low in range(15):
        inside = (confidence >= low / 15) & (confidence < (low + 1) / 15)
        if inside.any():
            accuracy = (predicted == labels)[inside].double().mean()
            error += float(inside.double().mean() * (accuracy - confidence[inside].mean()).abs())
    found = measure(capsys, run, "--loader", "reference")
    assert found["ece"] == pytest.approx(100 * error, rel=1e-3)


def test_the_mirror_image_is_averaged_in(run, image_folder, tmp_path, capsys):
    mirrored = tmp_path / "val"
    for path in (image_folder / "val").rglob("*.JPEG"):
        target = mirrored / path.relative_to(image_folder / "val").with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        image = Image.open(path).convert("RGB").resize((64, 64))
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(target)
        original = tmp_path / "plain" / path.relative_to(image_folder).with_suffix(".png")
        original.parent.mkdir(parents=True, exist_ok=True)
        image.save(original)
    losses = [
        measure(capsys, run, "--data", data, "--tta", "flip", "--loader", "reference")["loss"]
        for data in (tmp_path / "plain", tmp_path)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("device", "ranks", "local_rank", "gpus", "expected"),
    [
        (None, 1, 0, 2, "cuda:0"),
        ("cuda", 1, 0, 2, "cuda:0"),  # torch makes no device current that has no number
        ("cuda:1", 1, 0, 2, "cuda:1"),
        ("cuda:1", 2, 0, 2, "cuda:0"),  # each rank has its own
        (None, 2, 1, 1, "cuda:0"),  # Slurm shows each rank one GPU
    ],
)
def test_a_rank_takes_a_gpu_by_its_number(monkeypatch, device, ranks, local_rank, gpus, expected):
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch._C, "_cuda_setDevice", current.append, raising=False)
    monkeypatch.setattr(torch.cuda, "_check_stray_context", lambda _: None, raising=False)
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    place = _place(device, wants_gpu=True)
    assert place == torch.device(expected)
    assert current == [place.index]


def test_two_ranks_count_every_image_once(run, capsys, forks):
    options = ["--json", "--loader", "reference", "--batch-size", "4"]
    together = json.loads(forks.run_ranks(ROOT / "tools/validate.py", 2, str(run), *options))
    alone = measure(capsys, run, "--loader", "reference", "--batch-size", "4")
    assert together["count"] == 22
    for key in ("top1_count", "top5_count", "loss"):
        assert together[key] == pytest.approx(alone[key], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["runs/nowhere"], "no such file or folder"),
        (["RUN", "--data", "nowhere"], "--data: nowhere"),
        (["RUN", "--model", NAME], "--model"),
        (["FILE", "--best", "--data", "DATA"], "--best"),
        (["FILE"], "add --data"),
        (["RUN", "--data", "DATA", "--split", "test"], "but train/ and val/; add --split val"),
        (["configs/quickstart.yaml"], "a recipe, which has no weights; give the folder of a run"),
        (["configs/quickstart.yaml"], "such as runs/quickstart"),
        (["RUN/recipe.yaml"], "such as RUN"),
        (["RUN", "--per-class", "x.xlsx"], "name it .csv"),
        (["RUN", "--predictions", "nowhere/x.csv"], "nowhere: no such folder"),
        (["RUN", "--class-map", "nowhere.csv"], "nowhere.csv: there is no such file"),
        (["RUN", "--crop-pct", "1.5"], "--crop-pct"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told_in_words_and_before_torch(arguments, expected, run, image_folder):
    places = {
        "RUN": str(run),
        "FILE": str(run / "checkpoints/step_00000001/ema.safetensors"),
        "DATA": str(image_folder),
    }
    script = "import sys; from tools import validate; code = validate.main(sys.argv[1:]);"
    script += "assert 'torch' not in sys.modules; sys.exit(code)"
    done = subprocess.run(
        [
            *(sys.executable, "-c", script),
            *(places.get(word, word.replace("RUN", str(run))) for word in arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert expected.replace("RUN", str(run)) in done.stderr


def test_a_file_that_exists_is_not_replaced_unasked(run, tmp_path, capsys):
    path = tmp_path / "classes.csv"
    path.write_text("mine")
    assert validate.main([str(run), "--per-class", str(path)]) == 73
    assert "--force" in capsys.readouterr().err
    assert path.read_text() == "mine"
    measure(capsys, run, "--per-class", path, "--force")
    assert path.read_text().startswith("class,images")


def test_a_file_that_does_not_say_what_it_is_of_is_refused(image_folder, tmp_path, capsys):
    save_file(small_model().state_dict(), tmp_path / "bare.safetensors")
    arguments = [str(tmp_path / "bare.safetensors"), "--data", str(image_folder)]
    assert validate.main(arguments) == 2
    assert "--model NAME" in capsys.readouterr().err


def test_a_description_survives_safetensors_metadata():
    described = describe(small_model())
    assert description_from_metadata(described.as_metadata()) == described
    assert description_from_metadata({"format": "pt"}) is None
