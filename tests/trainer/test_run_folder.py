"""A run's folder: one process, one recipe."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.recipes import recipe
from trainer.run_folder import RunFolder, differences
from trainer.yaml_config import ConfigError

ROOT = Path(__file__).parents[2]


def test_differences_name_what_changes_results_only():
    lines = differences(recipe(), recipe(lr=2e-3, weight_decay=0.1))
    assert lines == ["optim.lr: was 0.001, now 0.002", "optim.weight_decay: was 0.05, now 0.1"]


def test_a_run_folder_in_use_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open(recipe())
    code = (
        "import sys; from pathlib import Path; from trainer import yaml_config;"
        "from trainer.recipe import Recipe; from trainer.run_folder import RunFolder\n"
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
    assert "another process is training in this folder" in second.stderr


def test_a_recipe_file_of_another_version_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: {nom: x}\n")
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match="made by another version"):
        folder.open(recipe())
    folder.close()
