"""What is told before torch is imported, and only what is certain."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import timm

import models
from pipeline.errors import DataError
from tests.support.recipes import recipe
from trainer.process.early_checks import check_names
from trainer.recipe import Recipe

ROOT = Path(__file__).parents[2]


def named(name: str, root: Path) -> Recipe:
    base = recipe()
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, name=name),
        data=dataclasses.replace(base.data, root=str(root)),
    )


@pytest.fixture
def data(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    return tmp_path


@pytest.mark.parametrize("name", models.names())
def test_every_model_of_ours_passes(name, data):
    check_names(named(name, data))


@pytest.mark.slow
@pytest.mark.parametrize("name", timm.list_models())
def test_every_model_of_timm_passes(name, data):
    check_names(named(name, data))


@pytest.mark.parametrize(
    "name", ["dynamixer_nano", "resnet50", "resnet50.a1_in1k", "vit_base_patch16_224_in21k"]
)
def test_registered_models_with_tags_and_old_names_pass(name, data):
    check_names(named(name, data))


def test_a_name_that_is_no_model_is_refused_with_its_neighbours(data):
    with pytest.raises(
        ValueError, match=r"model\.name: .*'dynamixr_nano'; did you mean 'dynamixer_nano'"
    ):
        check_names(named("dynamixr_nano", data))


def test_data_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"data\.root: .*nowhere: there is no such folder"):
        check_names(named("dynamixer_nano", tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("beside", "remedy"), [("test", "--val-folder test"), ("other", "--val-fraction 0.05")]
)
def test_a_missing_val_names_what_lies_there_and_how_to_make_it(tmp_path, beside, remedy):
    for name in ("train", beside):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=remedy) as caught:
        check_names(named("dynamixer_nano", tmp_path))
    assert beside in str(caught.value)


@pytest.mark.parametrize("overrides", [["model.name=dynamixr_nano"], ["data.root=nowhere"]])
def test_launch_tells_it_without_torch(overrides, tmp_path):
    script = (
        "import sys, launch\n"
        f"code = launch.main(['--config', 'configs/quickstart.yaml', *{overrides!r}])\n"
        "assert 'torch' not in sys.modules\n"
        "raise SystemExit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
