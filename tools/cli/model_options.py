"""MODEL: a run, a checkpoint, a published folder, a file of weights, or a name of timm's.

Here it is only found out which of them it is, from names and files, so that a mistake is told
before torch is imported; `tools.trained.load` loads it.
"""

import argparse
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import DataError
from tools.cli.numbers import positive

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".bin", ".ckpt")

MODEL_HELP = (
    "a run's folder, a checkpoint's folder, a published folder (config.json and model.safetensors),"
    " a .safetensors or an authors' checkpoint (with --model NAME where the file does not say of"
    " what it is), or a name of timm's, with the weights that timm has for it"
)

VARIANT_HELP = "the variant that the file is of, by its name or its authors'"


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What MODEL is, and which of its weights are wanted."""

    kind: Literal["run", "checkpoint", "published", "file", "name"]
    text: str
    variant: str | None = None
    """What the file is of, where the user says it."""
    raw: bool = False
    """The weights themselves, not their moving average."""
    best: bool = False
    """Of a run: the best evaluated, not the newest."""
    img_size: int | None = None
    """Pixels of a side; None: what the model was trained or published with."""

    @property
    def path(self) -> Path:
        """Where it lies; not for names."""
        return Path(self.text)


def add_model_options(parser: argparse.ArgumentParser, *, sizes: bool = True) -> None:
    """Add MODEL and what says which of its weights are meant."""
    parser.add_argument("weights", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--model", metavar="NAME", help=VARIANT_HELP)
    parser.add_argument("--raw", action="store_true", help="the weights, not their EMA")
    parser.add_argument("--best", action="store_true", help="of a run: the best, not the newest")
    if sizes:
        parser.add_argument(
            "--img-size", type=positive, metavar="PIXELS", help="default: what it was trained with"
        )


def model_choice(arguments: argparse.Namespace) -> ModelChoice:
    """Find out what MODEL is.

    Raises:
        DataError: if there is no such thing, or an option has no effect on it.
    """
    text = arguments.weights.removeprefix("local-dir:")
    choice = ModelChoice(
        kind=_kind(text),
        text=text,
        variant=arguments.model,
        raw=arguments.raw,
        best=arguments.best,
        img_size=getattr(arguments, "img_size", None),
    )
    if choice.variant and choice.kind != "file":
        raise DataError(f"--model: {text} says itself of which model it is; leave it out")
    if choice.best and choice.kind != "run":
        raise DataError(f"--best: {text} is not a run's folder; leave it out")
    if choice.raw and choice.kind in ("published", "name"):
        raise DataError(f"--raw: {text} has one set of weights only; leave it out")
    return choice


def _kind(text: str) -> Literal["run", "checkpoint", "published", "file", "name"]:
    path = Path(text)
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        raise DataError(
            f"{text}: a recipe, which has no weights; give the folder of a run of it, such as"
            f" {_run_of(path)}"
        )
    if path.is_file():
        return "file"
    if path.is_dir():
        if (path / "checkpoints").is_dir():
            return "run"
        if (path / "meta.json").is_file():
            return "checkpoint"
        if (path / "config.json").is_file():
            return "published"
        raise DataError(
            f"{text}: no model: expected checkpoints/ (a run), meta.json (a checkpoint) or"
            " config.json (a published model) in it"
        )
    if "/" in text or path.suffix in WEIGHTS_SUFFIXES:
        raise DataError(f"{text}: there is no such file or folder{_near(path)}")
    return "name"


def _run_of(recipe: Path) -> Path:
    beside = recipe.parent
    return beside if (beside / "checkpoints").is_dir() else Path("runs", recipe.stem)


def _near(path: Path) -> str:
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, 1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
