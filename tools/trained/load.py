"""The model that MODEL names, whatever it is, with what is known of it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from safetensors import SafetensorError, safe_open
from torch import nn

from models.build import TimmModel, input_config, takes_size
from models.layers.arguments import as_pair
from models.weights.checkpoint_files import Stored, WeightsError, read_weights
from models.weights.checkpoints import convert
from models.weights.description import ModelDescription, description_from_metadata, imagenet_classes
from models.weights.hub import WEIGHTS_FILE, published_model, read_hub_config
from tools.cli.model_options import ModelChoice
from trainer.record import checkpoint
from trainer.record.meta import CheckpointError, Meta
from trainer.record.run_folder import RECIPE_FILE, read_recipe


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model that is ready to predict, on the CPU, in evaluation mode.

    Attributes:
        model: with its weights.
        description: variant, arguments, class names and input.
        origin: which file the weights come from, for people.
        kind: "ema" or "raw"; empty where that is not known.
        meta: of the checkpoint that they come from, if they come from one.
        run: folder of the run, if there is one.
    """

    model: nn.Module
    description: ModelDescription
    origin: str
    kind: Literal["ema", "raw", ""] = ""
    meta: Meta | None = None
    run: Path | None = None

    @property
    def num_parameters(self) -> int:
        """How many numbers it has learnt."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def load(choice: ModelChoice) -> TrainedModel:
    """Load what the user chose.

    Raises:
        ValueError: if it is no model, damaged, or cannot take images of the size that is wanted.
    """
    try:
        if choice.kind == "name":
            model, description = published_model(choice.text, img_size=choice.img_size)
            origin = f"timm's {choice.text}"
            return TrainedModel(model=model.eval(), description=description, origin=origin)
        if choice.kind == "published":
            stored = read_weights(choice.path / WEIGHTS_FILE)
            return _described(stored, read_hub_config(choice.path), choice.img_size)
        if choice.kind == "file":
            return _from_file(choice)
        return _from_checkpoint(choice)
    except (CheckpointError, OSError, SafetensorError, json.JSONDecodeError) as error:
        raise WeightsError(str(error)) from error


def choose_checkpoint(root: Path, *, best: bool) -> Path:
    """The newest whole checkpoint below `root`, or the one that was evaluated best.

    Raises:
        CheckpointError: if there is none.
    """
    chosen = checkpoint.find_best(root) if best else checkpoint.find_latest(root)[0]
    if chosen is None:
        kind = "evaluated checkpoint" if best else "checkpoint"
        raise CheckpointError(f"{root}: no {kind} is there yet; train on, or name another run")
    return chosen


def _from_file(choice: ModelChoice) -> TrainedModel:
    stored = read_weights(choice.path, raw=choice.raw)
    if choice.variant:
        return _named(stored, choice.variant, choice.img_size)
    metadata: dict[str, str] = {}
    if choice.path.suffix == ".safetensors":
        with safe_open(choice.path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    if described := description_from_metadata(metadata):
        return _described(stored, described, choice.img_size)
    if "model" in metadata:  # what convert_checkpoint writes
        return _named(stored, metadata["model"], choice.img_size)
    raise WeightsError(f"{choice.path}: does not say of which model it is; add --model NAME")


def _from_checkpoint(choice: ModelChoice) -> TrainedModel:
    folder = choice.path
    if choice.kind == "run":
        folder = choose_checkpoint(folder / "checkpoints", best=choice.best)
    meta = checkpoint.read_meta(folder)
    run = folder.resolve().parents[1]
    recipe = read_recipe(run)
    average = folder / "ema.safetensors"
    is_raw = choice.raw or not average.exists()
    stored = read_weights(folder / "model.safetensors" if is_raw else average)
    if meta.model is not None:
        found = _described(stored, meta.model, choice.img_size)
    elif recipe is not None:  # from before checkpoints described their model
        found = _named(stored, recipe.model.name, choice.img_size or recipe.model.img_size)
    else:
        raise WeightsError(
            f"{folder}: says nothing of its model, and {run / RECIPE_FILE} cannot be read; give the"
            " file in it, with --model NAME"
        )
    return replace(
        found, kind="raw" if is_raw else "ema", meta=meta, run=run if recipe is not None else None
    )


def _named(stored: Stored, name: str, img_size: int | None) -> TrainedModel:
    """Weights of which only the variant is known: the rest is as the variant has it."""
    _, model = convert(stored, name, img_size=img_size)
    description = ModelDescription(
        name=name,
        arguments=_arguments(name, None if img_size is None else as_pair(img_size)),
        classes=imagenet_classes(cast("TimmModel", model).num_classes),
        input=input_config(model),
    )
    return TrainedModel(model=model.eval(), description=description, origin=str(stored.path))


def _described(stored: Stored, said: ModelDescription, img_size: int | None) -> TrainedModel:
    """Weights with their description, for images of another size if that is wanted."""
    size = said.input.size if img_size is None else as_pair(img_size)
    others = {key: value for key, value in said.arguments.items() if key != "img_size"}
    _, model = convert(stored, said.name, img_size=size, arguments=others)
    description = replace(
        said,
        arguments={**others, **_arguments(said.name, size)},
        input=replace(said.input, size=size),
    )
    return TrainedModel(model=model.eval(), description=description, origin=str(stored.path))


def _arguments(name: str, size: tuple[int, int] | None) -> dict[str, object]:
    if size is None or not takes_size(name):
        return {}
    return {"img_size": size[0] if size[0] == size[1] else list(size)}
