"""The authors' checkpoints, and those of timm's training script, as weights of our models.

A file may be safetensors, a plain state_dict, timm's saver (`state_dict`, `state_dict_ema`) or
AMixer's (`model`, `model_ema`). Names are a family's own matter: where a family was published in
several layouts, its module has a `checkpoint_filter_fn(state_dict, model)`, as in timm. Nothing is
unpickled but tensors, plain containers and argparse.Namespace.
"""

import argparse
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.convmixer import ConvMixer
from torch import Tensor, nn

from models import splitmixer
from models.build import TimmModel, takes_size, unknown_variant
from models.pyramid import Size
from models.resampling import PositionIndexed

AVERAGED = ("state_dict_ema", "model_ema")
RAW = ("state_dict", "model")
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""

MAX_NAMED_KEYS = 5

Weights = dict[str, Tensor]


class CheckpointError(ValueError):
    """A file that is no checkpoint, or not one of the model that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Weights as they lie in a file."""

    path: Path
    entry: str
    """Where in the file they are, "" in a file of nothing but weights."""
    weights: Weights


def read_weights(path: Path, *, raw: bool = False) -> Stored:
    """Read the weights out of any container; an exponential moving average is preferred.

    Args:
        path: the file.
        raw: take the weights themselves even where there is an average.

    Raises:
        CheckpointError: if there are no weights in it, or it holds arbitrary objects.
        FileNotFoundError: if there is no file.
    """
    content = _read(path)
    candidates = RAW if raw else AVERAGED + RAW
    entry = next((name for name in candidates if isinstance(content.get(name), Mapping)), "")
    if entry:
        content = cast("Mapping[str, object]", content[entry])
    weights = {}
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: expected weights, but {key!r} is of type {type(value).__name__}; known "
                f"are plain state_dicts and files with one of {', '.join(AVERAGED + RAW)}"
            )
        weights[key] = value
    if not weights:
        raise CheckpointError(f"{path}: there are no weights in it")
    return Stored(path=path, entry=entry, weights=_unwrapped(weights))


def convert(
    stored: Stored, name: str, *, img_size: Size | None = None
) -> tuple[Weights, nn.Module]:
    """Weights under the names, and for the image size, of the model `name`.

    Args:
        stored: weights in any known layout.
        name: the variant they are of; the number of classes is read from them.
        img_size: of the model to make; None is the variant's own.

    Returns:
        Weights in the file's precision, and the model that has them loaded.

    Raises:
        CheckpointError: if they are not of this model; it names the keys.
    """
    if unknown := unknown_variant(name):
        raise CheckpointError(unknown)
    # timm drops arguments that are None.
    model = timm.create_model(name, img_size=img_size if takes_size(name) else None)
    weights = fit(stored, model, name=name)
    model.load_state_dict(weights)
    return weights, model


def fit(stored: Stored, model: nn.Module, *, name: str) -> Weights:
    """Rename and resample weights for `model`, whose classifier is made as large as theirs.

    Raises:
        CheckpointError: naming missing, unexpected and misshapen keys, the file and the model.
    """
    weights = _family_filter(model)(stored.weights, model)
    _fit_classifier(weights, model)
    for prefix, module in model.named_modules():
        if isinstance(module, PositionIndexed):
            module.fit_positions(weights, f"{prefix}." if prefix else "")
    expected = {key: value.shape for key, value in model.state_dict().items()}
    problems = [
        *_listed("missing", [key for key in expected if key not in weights]),
        *_listed("unexpected", [key for key in weights if key not in expected]),
        *_listed(
            "of another shape",
            [
                f"{key} {tuple(weights[key].shape)}, the model's is {tuple(shape)}"
                for key, shape in expected.items()
                if key in weights and weights[key].shape != shape
            ],
        ),
    ]
    if problems:
        raise CheckpointError(
            f"{stored.path} is not a checkpoint of {name}: {'; '.join(problems)}. "
            "Name the variant that it was trained as"
        )
    return weights


def _read(path: Path) -> Mapping[str, object]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"an object of type {found[1]}" if found else "what is no tensor"
        raise CheckpointError(
            f"{path}: refused, because it holds {what}, and unpickling that could run any code; "
            "where you trust the file, save its state_dict alone and convert that"
        ) from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error})") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a dictionary, got a {type(content).__name__}")
    return content


def _unwrapped(weights: Weights) -> Weights:
    for prefix in WRAPPER_PREFIXES * 2:  # they occur in both orders
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _family_filter(model: nn.Module) -> Callable[[Weights, nn.Module], Weights]:
    if isinstance(model, ConvMixer):
        return _timm_convmixer_names
    family = sys.modules[type(model).__module__]
    return getattr(family, "checkpoint_filter_fn", lambda weights, _: dict(weights))


def _timm_convmixer_names(weights: Weights, model: nn.Module) -> Weights:
    """All ConvMixer layouts to timm's, by way of the SplitMixer one, which has a map from each."""
    weights = splitmixer.checkpoint_filter_fn(weights, model)
    return {_timm_convmixer_name(key): value for key, value in weights.items()}


def _timm_convmixer_name(key: str) -> str:
    if found := re.fullmatch(r"mixer_blocks\.(\d+)\.(fn|0|2)\.(.*)", key):
        part = {"fn": "0.fn", "0": "1", "2": "3"}[found[2]]
        return f"blocks.{int(found[1]) // 2}.{part}.{found[3]}"
    return re.sub(r"^patch_emb\.", "stem.", key)


def _fit_classifier(weights: Weights, model: nn.Module) -> None:
    """Give the model as many classes as the checkpoint has, if it has a classifier."""
    described = cast("TimmModel", model)
    head = weights.get(f"{described.pretrained_cfg['classifier']}.weight")
    if head is not None and len(head) != described.num_classes:
        described.reset_classifier(len(head))


def _listed(what: str, keys: list[str]) -> list[str]:
    """A clause that counts the keys and names the first, nothing if there are none."""
    if not keys:
        return []
    more = len(keys) - MAX_NAMED_KEYS
    tail = f" and {more} more" if more > 0 else ""
    return [f"{len(keys)} {what} ({', '.join(keys[:MAX_NAMED_KEYS])}{tail})"]
