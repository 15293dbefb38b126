"""`tools/bench_loader.py`: stages measured on real shards, and what follows from the figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tools import bench_loader, make_shards
from tools.speed.stages import AUGMENTING, BATCH, DECODING, READING, TRANSFER, Measured
from tools.speed.verdict import MODEL, verdict
from trainer.tuning import cache

ROOT = Path(__file__).parents[2]

RECIPE = """\
model: {{name: dynamixer_nano}}
data: {{root: {root}, threads: 1}}
batch: {{global_size: 8, per_gpu: 8}}
optim: {{lr: 1.0e-3}}
schedule: {{epochs: 1}}
augment: {{auto_augment: rand-m9-mstd0.5-inc1, mixup: 0.8, erase: 0.25}}
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory, image_folder):
    output = tmp_path_factory.mktemp("bench") / "shards"
    assert make_shards.main([str(image_folder), "--output", str(output), "--workers", "1"]) == 0
    return output


@pytest.fixture
def config(tmp_path, shards):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.format(root=shards))
    return path


def test_every_stage_of_real_shards_is_measured_told_and_drawn(config, capsys):
    picture = config.parent / "where.png"
    arguments = ["--config", str(config), "--seconds", "1", "--json", "--output", str(picture)]
    capsys.readouterr()
    assert bench_loader.main([*arguments, "data.loader=reference"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["stages"]) == {READING, DECODING, AUGMENTING, BATCH}  # nothing to transfer
    assert min(told["stages"].values()) > 0
    assert told["loader"] == "reference"
    assert told["threads"] == 1
    bottleneck, rate = told["verdict"]["bottleneck"], told["verdict"]["images_per_s"]
    assert bottleneck in {*told["stages"], MODEL}
    assert rate < min(told["together"], told["model"])  # they share the cores
    with Image.open(picture) as image:
        assert image.width > 500


def test_the_model_is_computed_as_the_recipe_and_what_was_tuned_say(config, tmp_path):
    overrides = ["precision.dtype=bf16", "run.tuned=true", "model.freeze=[patch_embed.*]"]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("measured_worker.py"), config, *overrides],
        env={**os.environ, "PYTHONPATH": str(ROOT), cache.VARIABLE: str(tmp_path / "tuned")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "contiguous": True,
        "compiled": True,
        "half norms": True,
        "stem learns": False,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.root=/nowhere"], "/nowhere: there is no such folder"),
        (["augment.mixupp=1"], "did you mean 'mixup'"),
        (["--output", "where.jpg"], "name it .png"),
    ],
)
def test_what_cannot_be_measured_is_named(config, capsys, arguments, message):
    assert bench_loader.main(["--config", str(config), *arguments]) == 2
    assert message in capsys.readouterr().err


def measured(*, together, model, threads=2, loader="host", on_gpu=True, **stages):
    costs = {READING: 1.0, DECODING: 5.0, AUGMENTING: 2.0, BATCH: 1.0, TRANSFER: 1.0}
    return Measured(
        stages={**costs, **{name.replace("_", " "): cost for name, cost in stages.items()}},
        together=together,
        model=model,
        loader=loader,
        threads=threads,
        on_gpu=on_gpu,
    )


def test_a_model_that_gets_enough_is_the_bottleneck_itself():
    found = verdict(measured(together=3000, model=1000), cores=8)
    assert found.bottleneck == MODEL
    assert (found.images_per_s, found.wait) == (1000, 0)
    assert "3.0 times as much" in found.advice


def test_idle_cores_are_to_decode():
    found = verdict(measured(together=1000, model=2500), cores=8)
    assert found.bottleneck == DECODING
    assert (found.images_per_s, found.wait) == (1000, pytest.approx(0.6))
    assert "data.threads to 5 (now 2)" in found.advice


def test_threads_are_not_asked_for_beyond_the_cores():
    assert "data.threads to 3 (now 2)" in verdict(measured(together=1, model=9), cores=3).advice
    assert "about 18 cores" in verdict(measured(together=1, model=9), cores=2).advice


@pytest.mark.parametrize(
    ("changes", "bottleneck", "remedy"),
    [
        ({"reading": 9.0}, READING, "local disk"),
        ({"augmenting": 9.0}, AUGMENTING, "augment.auto_augment"),
        ({"erasing_and_mixing": 9.0}, BATCH, "augment.erase"),
        ({"transfer": 9.0}, TRANSFER, "model.img_size"),
        ({"loader": "reference"}, DECODING, "leave data.loader out"),
    ],
)
def test_the_slowest_stage_is_named_with_its_remedy(changes, bottleneck, remedy):
    found = verdict(measured(together=1000, model=2000, **changes), cores=2)
    assert found.bottleneck == bottleneck
    assert remedy in found.advice


def test_times_add_up_where_loading_and_model_share_the_cores():
    found = verdict(measured(together=1000, model=3000, on_gpu=False), cores=2)
    assert found.images_per_s == pytest.approx(750)
    assert found.wait == pytest.approx(0.75)
