"""Token labels from end to end: a small annotator labels digits, and a student learns from it.

Four digits, so that it takes seconds; benchmarks/token_labels does the same with all ten.
"""

import json
import shutil
import sys

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from models.build import input_config
from models.weights.description import ModelDescription
from pipeline.formats.open import open_source
from pipeline.formats.token_label_file import TokenLabelFile
from tests.support.forks import ROOT
from tools import make_token_labels

CLASSES = ("0", "1", "2", "3")
ARGUMENTS = {"dim": 32, "depth": 2}
RECIPE = """
model: {name: lvvit_t, img_size: 32, args: {embed_dim: 48, depth: 2, num_heads: 2, stem_width: 16}}
batch: {global_size: 32, per_gpu: 16, evaluation: 72}
data:
  loader: reference
  threads: 1
  crop: {scale: [0.6, 1.0], ratio: [0.8, 1.25], hflip: 0.0}
augment: {smoothing: 0.1}
optim: {lr: 2.0e-3}
schedule: {epochs: 6, warmup_epochs: 1}
run: {name: student, log_every: 1, evaluate_every: 6, save_every_steps: 100}
"""
CUT = 100
"""A step within the last epoch, at which there is a checkpoint."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with about 575 digits to train on and 145 to evaluate on."""
    root = tmp_path_factory.mktemp("digits")
    pictures, labels = load_digits(n_class=len(CLASSES), return_X_y=True)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        path = root / ("train" if number % 5 else "val") / str(label) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray((picture.reshape(8, 8) * (255 / 16)).astype(np.uint8))
        small.resize((32, 32), Image.Resampling.BICUBIC).convert("RGB").save(path, quality=95)
    return root


@pytest.fixture(scope="module")
def annotator(digits, tmp_path_factory):
    """A file of the weights of a small ConvMixer that has learned the training digits."""
    torch.manual_seed(0)
    model = timm.create_model("convmixer_256_8", num_classes=len(CLASSES), **ARGUMENTS)
    config = input_config(model)
    images, labels = zip(
        *(
            (np.asarray(Image.open(path)), int(path.parent.name))
            for path in sorted((digits / "train").rglob("*.jpg"))
        ),
        strict=True,
    )
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(each)[:, None, None] for each in (config.mean, config.std))
    pixels, right = (pixels - mean) / std, torch.tensor(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        chosen = torch.randint(len(pixels), (32,))
        loss = F.cross_entropy(model(pixels[chosen]), right[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    said = ModelDescription(
        name="convmixer_256_8", arguments=dict(ARGUMENTS), classes=CLASSES, input=config
    )
    path = tmp_path_factory.mktemp("annotator") / "annotator.safetensors"
    save_file(model.state_dict(), path, said.as_metadata())
    return path


@pytest.fixture(scope="module")
def maps(digits, annotator):
    arguments = [annotator, "--data", digits, "--device", "cpu", "--loader", "reference"]
    assert make_token_labels.main([*map(str, arguments), "--batch-size", "64"]) == 0
    return digits / "train.token_labels"


def train(forks, folder, digits, maps):
    recipe = folder / "student.yaml"
    recipe.write_text(RECIPE)
    program = [sys.executable, ROOT / "launch.py", "--config", recipe]
    where = [f"run.root={folder}", f"data.root={digits}", f"token_labels.file={maps}"]
    done = forks.run([*program, *where])
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "student"


@pytest.fixture(scope="module")
def student(forks, tmp_path_factory, digits, maps):
    return train(forks, tmp_path_factory.mktemp("student"), digits, maps)


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["event"] == "step"}


def top1(run):
    return json.loads((run / "summary.json").read_text())["top1"]


def test_the_annotator_is_right_in_most_places(maps, digits):
    file, labels = TokenLabelFile(maps), np.asarray(open_source(digits / "train").labels)
    best = file.read(np.arange(len(labels)))["classes"][:, 0]
    assert (best == labels[:, None, None]).mean() > 0.4
    most = [np.bincount(places.ravel(), minlength=4).argmax() for places in best]
    assert (most == labels).mean() > 0.7


def test_a_student_learns_from_labels_of_tokens(student):
    """A guess is right on a quarter of the digits."""
    assert top1(student) > 70


def test_a_run_that_is_cut_within_an_epoch_goes_on_with_the_same_losses(
    student, digits, maps, forks, tmp_path
):
    cut = tmp_path / "student"
    shutil.copytree(student, cut)
    for checkpoint in (cut / "checkpoints").glob("step_*"):
        if int(checkpoint.name.partition("_")[2]) > CUT:
            shutil.rmtree(checkpoint)
    (cut / "summary.json").unlink()
    train(forks, tmp_path, digits, maps)
    assert f"step_{CUT:08d}" in (cut / "metrics.jsonl").read_text().partition("going on from")[2]
    assert losses(cut) == losses(student)
    assert top1(cut) == top1(student)
