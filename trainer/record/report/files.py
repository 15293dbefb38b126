"""What lies in the folder of a run, read without torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from trainer import yaml_config
from trainer.recipe import Recipe
from trainer.record.bad_samples import listed
from trainer.record.exit_file import EXIT_FILE
from trainer.record.log_reader import read_log
from trainer.record.run_folder import RECIPE_FILE

BATCH_FILE, EVALUATION_FILE = "batch.json", "evaluation.json"
"""What `kept` writes, in `KEPT_FOLDER`."""
KEPT_FOLDER = "kept"

Tree = dict[str, Any]
"""What a JSON file holds."""


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """A run as its files tell it; what is not there is empty.

    Attributes:
        name: to call it by; unique where several runs are compared.
        path: its folder.
        recipe: None where this version does not read it.
        recipe_text: `recipe.yaml` as it is.
        events: of `metrics.jsonl`, in their order.
        summary: `summary.json`, which is there once the run is complete.
        meta: `meta.json` of the newest checkpoint.
        exit: `exit.json`.
        bad: lines of `bad_samples*.jsonl`.
        batch: a batch as the model got it.
        evaluation: what the last evaluation said of each class.
    """

    name: str
    path: Path
    recipe: Recipe | None
    recipe_text: str
    events: list[Tree]
    summary: Tree
    meta: Tree
    exit: Tree
    bad: list[dict[str, str | int]]
    batch: Tree
    evaluation: Tree

    def of_kind(self, kind: str) -> list[Tree]:
        """The events of a kind, in their order."""
        return [event for event in self.events if event["event"] == kind]

    @property
    def start(self) -> Tree:
        """The last `start` event."""
        return (self.of_kind("start") or [{}])[-1]

    @property
    def step(self) -> int:
        """The last step that is logged."""
        return max((event["step"] for event in self.events), default=0)

    @property
    def result(self) -> Tree:
        """The last evaluation, of the EMA weights if there are any."""
        return (self.of_kind("eval") or [{}])[-1]

    def evaluations(self, *, ema: bool) -> list[Tree]:
        """The evaluations of one kind of weights."""
        return [event for event in self.of_kind("eval") if event["ema"] == ema]


def read_run(path: Path, *, name: str = "") -> RunFiles:
    """Read what there is.

    Raises:
        DataError: if there is no run, or a file of it is damaged; it names it.
    """
    recipe, text = _recipe(path / RECIPE_FILE)
    metas = sorted(path.glob("checkpoints/step_*[0-9]/meta.json"))
    return RunFiles(
        name=name or path.resolve().name,
        path=path,
        recipe=recipe,
        recipe_text=text,
        events=[dict(event) for event in read_log(path)],
        summary=_tree(path / "summary.json"),
        meta=_tree(metas[-1]) if metas else {},
        exit=_tree(path / EXIT_FILE),
        bad=listed(path),
        batch=_tree(path / KEPT_FOLDER / BATCH_FILE),
        evaluation=_tree(path / KEPT_FOLDER / EVALUATION_FILE),
    )


def _recipe(path: Path) -> tuple[Recipe | None, str]:
    if not path.exists():
        return None, ""
    text = path.read_text(encoding="utf-8")
    try:
        return yaml_config.load(Recipe, path), text
    except yaml_config.ConfigError:  # of another version
        return None, text


def _tree(path: Path) -> Tree:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); remove the file") from error
    return tree if isinstance(tree, dict) else {}
