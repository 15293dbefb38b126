"""The authors' checkpoints, and those of timm's training script, as weights of our models.

Names are a family's own matter: where a family was published in several layouts, its module has a
`checkpoint_filter_fn(state_dict, model)`, as in timm. What files hold weights, and how they are
read, is in `models.weights.checkpoint_files`.
"""

import logging
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

import timm
from huggingface_hub import try_to_load_from_cache
from timm.models.convmixer import ConvMixer
from torch import nn

import models
from models import splitmixer
from models.build import (
    TimmModel,
    classifier_names,
    input_config,
    take_size,
    takes_size,
    unknown_variant,
)
from models.layers.arguments import Size, as_pair
from models.layers.resampling import PositionIndexed
from models.weights.checkpoint_files import Stored, Weights, WeightsError

MAX_NAMED_KEYS = 5
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")

_NOTHING: Mapping[str, object] = MappingProxyType({})
_logger = logging.getLogger(__name__)


def convert(
    stored: Stored,
    name: str,
    *,
    img_size: Size | None = None,
    arguments: Mapping[str, object] = _NOTHING,
) -> tuple[Weights, nn.Module]:
    """Weights under the names, and for the image size, of the model `name`.

    Args:
        stored: weights in any known layout.
        name: the variant they are of, by its name or by its authors'; the numbers of classes (0
            without a classifier) and of the images' channels are read from them.
        img_size: of the model to make; None is the variant's own.
        arguments: of the model's constructor, where it was trained with others than the variant's.

    Returns:
        Weights in the file's precision, and the model that has them loaded.

    Raises:
        WeightsError: if they are not of this model; it names the keys.
        ValueError: if there is no such model of this size.
    """
    name, settings = models.resolve(name)
    if unknown := unknown_variant(name):
        raise WeightsError(unknown)
    size = None if img_size is None else as_pair(img_size)
    wanted = {**settings, **arguments}
    if size is not None and takes_size(name):
        wanted["img_size"] = size
    create = cast("Callable[..., nn.Module]", timm.create_model)
    model = create(name, **wanted)
    if (channels := _image_channels(stored, model)) is not None:
        model = create(name, **{**wanted, "in_chans": channels})
    if size is not None:
        take_size(model, size)
    weights = fit(stored, model, name=name)
    model.load_state_dict(weights)
    return weights, model


def published_weights(name: str) -> Path:
    """The file of a timm name's weights in this machine's cache; nothing is downloaded.

    Raises:
        WeightsError: if there is no such model, it was published without weights, or they are not
            here; it says how to fetch them.
    """
    if unknown := unknown_variant(name):
        raise WeightsError(unknown)
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise WeightsError(f"no weights were published for {name}; name a file of weights")
    for file in _HUB_FILES:
        found = try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(found, str):
            return Path(found)
    raise WeightsError(
        f"the weights of {name} are not on this machine, and nothing is downloaded here; fetch"
        f" them once with: hf download {config.hf_hub_id}"
    )


def fit(stored: Stored, model: nn.Module, *, name: str) -> Weights:
    """Rename and resample weights for `model`, whose classifier is made as large as theirs.

    Raises:
        WeightsError: naming missing, unexpected and misshapen keys, the file and the model.
    """
    weights = _family_filter(model)(stored.weights, model)
    _fit_classifier(weights, model)
    original = dict(weights)
    try:
        odd = _fit_positions(weights, model, path=str(stored.path))
    except ValueError as error:
        raise WeightsError(f"{stored.path} does not fit {name} of this size: {error}") from error
    weights |= {key: original[key] for key in odd}
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
        raise WeightsError(
            f"{stored.path} is not a checkpoint of {name}: {'; '.join(problems)}. "
            "Name the variant that it was trained as; if it was trained with other arguments than "
            "the variant's, give them as model.args of a recipe, or to "
            "models.weights.checkpoints.convert(..., arguments={...})"
        )
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


def _image_channels(stored: Stored, model: nn.Module) -> int | None:
    """How many channels the images of a checkpoint have, None if as many as the model's."""
    first_conv = cast("TimmModel", model).pretrained_cfg["first_conv"]
    if not isinstance(first_conv, str):  # none, or several
        return None
    weights = _family_filter(model)(stored.weights, model)
    key = f"{first_conv}.weight"
    stem, ours = weights.get(key), model.state_dict()[key]
    if stem is None or stem.ndim != ours.ndim or stem.shape[1] == ours.shape[1]:
        return None
    return stem.shape[1]


def _fit_classifier(weights: Weights, model: nn.Module) -> None:
    """Give the model as many classes as the checkpoint has; none if it has no classifier."""
    described, names = cast("TimmModel", model), classifier_names(model)
    head = next((weights[key] for name in names if (key := f"{name}.weight") in weights), None)
    if head is None and not any(f"{name}.bias" in weights for name in names):
        described.reset_classifier(0)
    elif head is not None and head.ndim > 0 and len(head) != described.num_classes:
        described.reset_classifier(len(head))


def _fit_positions(weights: Weights, model: nn.Module, *, path: str) -> list[str]:
    """Resample, in place, weights of another grid.

    Returns:
        Keys that are of another grid than their like in other blocks: they are misshapen.
    """
    before = {key: weight.shape for key, weight in weights.items()}
    shapes: defaultdict[tuple[str, object], dict[str, object]] = defaultdict(dict)
    for prefix, module in model.named_modules():
        if isinstance(module, PositionIndexed):
            module.fit_positions(weights, f"{prefix}." if prefix else "")
    for key, weight in model.state_dict().items():
        if key in before:  # alike are those with the same last names and the same shape
            like = ".".join(key.split(".")[-3:]).lstrip("0123456789."), weight.shape
            shapes[like][key] = before[key]
    changed = [key for key, shape in before.items() if weights[key].shape != shape]
    odd = [
        key
        for alike in shapes.values()
        if len(set(alike.values())) > 1
        for key in alike
        if key in changed
    ]
    if changed and not odd:
        _logger.warning(
            "%s: made for another image size than %dx%d; %d weights that are indexed by positions"
            " are resampled",
            path,
            *input_config(model).size,
            len(changed),
        )
    return odd


def _listed(what: str, keys: list[str]) -> list[str]:
    """A clause that counts the keys and names the first, nothing if there are none."""
    if not keys:
        return []
    more = len(keys) - MAX_NAMED_KEYS
    tail = f" and {more} more" if more > 0 else ""
    return [f"{len(keys)} {what} ({', '.join(keys[:MAX_NAMED_KEYS])}{tail})"]
