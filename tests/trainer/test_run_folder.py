"""A run's folder: one process, one recipe."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.recipes import recipe
from trainer import yaml_config
from trainer.recipe import Recipe
from trainer.record.run_folder import RunFolder, differences
from trainer.run_config import RunConfig
from trainer.yaml_config import ConfigError

ROOT = Path(__file__).parents[2]


def test_differences_name_what_changes_results_only():
    lines = differences(recipe(), recipe(lr=2e-3, weight_decay=0.1))
    assert lines == ["optim.lr: was 0.001, now 0.002", "optim.weight_decay: was 0.05, now 0.1"]


def test_a_run_folder_in_use_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open(recipe())
    folder.claim(recipe())
    code = (
        "import sys; from pathlib import Path; from trainer import yaml_config;"
        "from trainer.recipe import Recipe; from trainer.record.run_folder import RunFolder\n"
        "path = Path(sys.argv[1])\n"
        "recipe = yaml_config.load(Recipe, path / 'recipe.yaml')\n"
        "try: RunFolder(path, patience_s=0.1).open(recipe)\n"
        "except yaml_config.ConfigError as error: sys.exit(str(error))"
    )
    second = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    folder.close()
    assert second.returncode == 1
    holder = f"process {os.getpid()} on {socket.gethostname()}, started "
    assert f"{holder}{time.strftime('%Y')}" in second.stderr
    assert "is training in this folder" in second.stderr
    assert "waiting up to 0 s" in second.stderr


def test_a_recipe_file_of_another_version_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: {nom: x}\n")
    (tmp_path / "checkpoints" / "step_00000001").mkdir(parents=True)
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match="made by another version"):
        folder.open(recipe())
    folder.close()


def test_a_folder_without_a_checkpoint_is_free(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: {nom: x}\n")
    folder = RunFolder(tmp_path)
    folder.open(recipe())
    folder.claim(recipe())
    folder.close()
    assert differences(yaml_config.load(Recipe, tmp_path / "recipe.yaml"), recipe()) == []


def test_opening_tells_what_the_run_that_goes_on_was_begun_with(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.open(recipe()) is None
    folder.claim(recipe())
    folder.close()
    (tmp_path / "checkpoints" / "step_00000001").mkdir()
    again = RunFolder(tmp_path)
    asked = replace(recipe(), run=RunConfig(log_every=3))
    assert again.open(asked) == recipe()
    again.close()


def test_opening_claims_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open(recipe())
    folder.close()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/run cannot be written to .* choose another run.root"):
        RunFolder(tmp_path / "file" / "run").open(recipe())
