"""Folders laid out as the Hugging Face hub's, and the weights that timm has published there.

A folder holds `config.json` and `model.safetensors`; `timm.create_model("local-dir:FOLDER",
pretrained=True)` loads it, ours after `import models`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import timm
from torch import nn

from models.build import InputConfig, input_config, take_size, takes_size, unknown_variant
from models.layers.arguments import as_pair
from models.weights.checkpoint_files import WeightsError
from models.weights.description import ModelDescription, imagenet_classes, words_for

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

TRAINING_ONLY = ("drop_path_rate", "drop_rate")
"""Arguments of constructors that change nothing in a trained model."""
_KEPT = ("first_conv", "classifier", "pool_size", "fixed_input_size", "license")
"""What timm needs of a `pretrained_cfg` beside the input."""


def hub_config(model: nn.Module, description: ModelDescription) -> dict[str, object]:
    """The content of `config.json`, with timm's keys."""
    stored = cast("Mapping[str, object]", model.pretrained_cfg)
    wanted = description.input
    arguments = {k: v for k, v in description.arguments.items() if k not in TRAINING_ONLY}
    config: dict[str, object] = {
        "architecture": description.name,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "model_args": arguments,
        "pretrained_cfg": {
            **{key: stored[key] for key in _KEPT if stored.get(key) is not None},
            "num_classes": model.num_classes,
            "input_size": [cast("tuple[int, ...]", stored["input_size"])[0], *wanted.size],
            "mean": list(wanted.mean),
            "std": list(wanted.std),
            "crop_pct": wanted.crop_pct,
            "crop_mode": wanted.crop_mode,
            "interpolation": wanted.interpolation,
        },
    }
    if description.classes:
        words = words_for(description.classes)
        config["label_names"] = list(description.classes)
        config["label_descriptions"] = dict(zip(description.classes, words, strict=True))
    return config


def read_hub_config(folder: Path) -> ModelDescription:
    """What `config.json` of such a folder says, whoever made it.

    Raises:
        WeightsError: if it is not such a file.
    """
    path = folder / CONFIG_FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        stored = tree["pretrained_cfg"]
        return ModelDescription(
            name=tree["architecture"],
            arguments=dict(tree.get("model_args") or {}),
            classes=_labels(tree.get("label_names")),
            input=InputConfig(
                size=tuple(stored["input_size"][1:]),
                mean=tuple(stored["mean"]),
                std=tuple(stored["std"]),
                crop_pct=stored.get("crop_pct", 0.875),
                interpolation=stored.get("interpolation", "bicubic"),
                crop_mode=stored.get("crop_mode", "center"),
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path}: not the config.json of a model of timm's ({type(error).__name__}: {error})"
        ) from error


def published_model(name: str, *, img_size: int | None) -> tuple[nn.Module, ModelDescription]:
    """A model of timm's with its published weights, from timm's cache or the hub.

    Raises:
        WeightsError: if there are none for this name, or they cannot be had.
        ValueError: if it cannot take images of this size.
    """
    if unknown := unknown_variant(name):
        raise WeightsError(unknown)
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise WeightsError(
            f"{name}: nobody has published weights under this name; name a run, a checkpoint, or a"
            f" file of weights with --model {name}"
        )
    arguments = {"img_size": img_size} if img_size is not None and takes_size(name) else {}
    create = cast("Callable[..., nn.Module]", timm.create_model)
    try:
        model = create(name, pretrained=True, **arguments)
    except OSError as error:
        raise WeightsError(
            f"{name}: its weights are not in timm's cache and cannot be fetched ({error}); name a"
            f" file of weights with --model {name}"
        ) from error
    if img_size is not None:
        take_size(model, as_pair(img_size))
    classes = imagenet_classes(cast("int", model.num_classes))
    return model, ModelDescription(
        name=name, arguments={**arguments}, classes=classes, input=input_config(model)
    )


def load_folder(folder: Path) -> nn.Module:
    """The model of such a folder, as anybody with timm loads it."""
    return timm.create_model(f"local-dir:{folder}", pretrained=True)


def _labels(stored: object) -> tuple[str, ...]:
    """Names of the outputs, which timm writes as a list, or by their index."""
    if isinstance(stored, dict):
        return tuple(stored[key] for key in sorted(stored, key=int))
    return tuple(cast("list[str]", stored or []))
