"""The images that a model is measured on: those that are named, or those of its run.

Found out from names and files alone, as `model_options` does with MODEL, so that a mistake is told
before torch is imported.
"""

import os
from pathlib import Path

from pipeline.config import DataConfig
from pipeline.errors import DataError
from tools.cli.model_options import ModelChoice
from trainer.recipe import Recipe
from trainer.record.run_folder import read_recipe

SPLITS = ("train", "val", "validation", "test")
_DEFAULT_SPLIT = "val"


def data_choice(model: ModelChoice, data: str | None, split: str | None) -> tuple[DataConfig, str]:
    """How data are read, and the folder or URL of the split.

    Args:
        model: whose run has data of its own.
        data: what the user names instead; None: the run's.
        split: its name; None: val, or the folder itself where it is a split.

    Raises:
        DataError: if there is no such folder or split, or nobody says on which data.
    """
    if data is not None:
        root = data.rstrip("/") or "/"
        if "://" not in root and not _lies(root):
            raise DataError(f"--data: {data}: there is no such folder")
        return DataConfig(), _split_of(root, split)
    if model.kind not in ("run", "checkpoint"):
        raise DataError(f"--data: {model.text} does not say on which data; add --data FOLDER")
    run = model.path if model.kind == "run" else model.path.resolve().parents[1]
    recipe = read_recipe(run)
    if recipe is None:
        raise DataError(
            f"--data: {run} has no recipe.yaml that this version reads, and so does not say on"
            " which data; add --data FOLDER"
        )
    return recipe.data, _split_of(_root_of(recipe, run), split)


def _root_of(recipe: Recipe, run: Path) -> str:
    """Where the run's data lie: a relative path begins where the run was started."""
    root = recipe.data.root.rstrip("/")
    if "://" in root:
        return root
    folders = [place for place in (_started_in(recipe, run), Path()) if place is not None]
    for folder in folders:
        if _lies(str(folder / root)):
            return str(folder / root)
    looked = "" if Path(root).is_absolute() else f" (looked in {' and in '.join(_said(folders))})"
    raise DataError(
        f"--data: {run} was trained on data.root {root}, which is not here{looked}; add --data"
        " FOLDER"
    )


def _started_in(recipe: Recipe, run: Path) -> Path | None:
    """The folder in which the run was started, where its own, relative path tells."""
    below = Path(os.path.normpath(Path(recipe.run.root, recipe.run.name)))
    folder = run.resolve()
    if below.is_absolute() or folder.parts[-len(below.parts) :] != below.parts:
        return None
    started = folder.parents[len(below.parts) - 1]
    return Path() if started == Path().resolve() else started


def _said(folders: list[Path]) -> list[str]:
    return list(dict.fromkeys(str(folder.resolve()) for folder in folders))


def _split_of(root: str, split: str | None) -> str:
    """The split below `root`, or `root` itself where it is one and no other is named."""
    inside = f"{root}/{split or _DEFAULT_SPLIT}"
    if "://" in root:
        own = root.rpartition("/")[2]
        return root if own in SPLITS and split in (None, own) else inside
    if _lies(inside):
        return inside
    there = [name for name in SPLITS if _lies(f"{root}/{name}")]
    if split is None and not _holds_splits(Path(root), there):
        return root
    raise DataError(f"{root}: there is no {split or _DEFAULT_SPLIT}/ in it{_remedy(there)}")


def _holds_splits(root: Path, there: list[str]) -> bool:
    """Whether names such as test are those of splits, and not of classes."""
    if "train" in there or not there:
        return bool(there)
    folders = {path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."}
    return folders <= set(SPLITS)


def _remedy(there: list[str]) -> str:
    if not there:
        return "; leave --split out where the folder is itself the split"
    if there == ["train"]:
        return ", but train/ alone; --split train measures on the training images"
    best = next(name for name in there if name != "train")
    return f", but {' and '.join(f'{name}/' for name in there)}; add --split {best}"


def _lies(path: str) -> bool:
    return Path(path).exists() or Path(f"{path}.beton").exists()
