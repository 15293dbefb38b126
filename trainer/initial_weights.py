"""Weights to start from, or to teach with: found on this machine, renamed, resampled, loaded.

Nothing is downloaded. Files are read by `models.weights.checkpoint_files`, names of all known
layouts are mapped by `models.weights.checkpoints`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

from torch import nn

from models.build import TimmModel, classifier_names, input_config
from models.weights.checkpoint_files import WeightsError, read_weights
from models.weights.checkpoints import convert, published_weights
from trainer.record import checkpoint

_NOTHING: Mapping[str, object] = MappingProxyType({})
_log = logging.getLogger(__name__)


def load_weights(
    model: nn.Module,
    source: str,
    *,
    name: str,
    key: str,
    arguments: Mapping[str, object] = _NOTHING,
) -> bool:
    """Put the weights that `source` names into `model`.

    A classifier for another number of classes is left as it is, freshly drawn, and that is logged.

    Args:
        model: takes the weights.
        source: a run folder, a checkpoint folder, a file, or a timm name (see `find_weights`).
        name: the variant that `model` is, and that the weights must be of.
        key: the recipe's key, for error messages.
        arguments: of the constructor of `model`, where they are not the variant's.

    Returns:
        Whether the classifier came along.

    Raises:
        ValueError: if there are no such weights, or they are not of this model.
    """
    path, size = find_weights(source, key=key), input_config(model).size
    try:
        weights, other = convert(read_weights(path), name, img_size=size, arguments=arguments)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    ours, theirs = (cast("TimmModel", each).num_classes for each in (model, other))
    if ours != theirs:
        head = set(_classifier_keys(model))
        weights = {name: weight for name, weight in weights.items() if name not in head}
        _log.warning(
            "%s: %s is for %d classes, the data has %d: its classifier is drawn afresh",
            *(key, source, theirs, ours),
        )
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert ours != theirs or not missing  # `convert` has made sure of all others
    return ours == theirs


def find_weights(source: str, *, key: str) -> Path:
    """The file of weights that `source` names.

    Of a run folder it is the best checkpoint's, or the newest's if none was evaluated, and the
    average if there is one.

    Raises:
        ValueError: naming `key`, `source` and the remedy.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        return _in_folder(path, key)
    try:
        return published_weights(source)
    except WeightsError as error:
        raise ValueError(f"{key}: {source!r} is no file or run folder here; {error}") from error


def _in_folder(path: Path, key: str) -> Path:
    if not (path / "model.safetensors").is_file():
        root = path / "checkpoints"
        found = checkpoint.find_best(root) or checkpoint.find_latest(root)[0]
        if found is None:
            raise ValueError(f"{key}: there is no checkpoint in {path}; name a folder of a run")
        path = found
    averaged = path / "ema.safetensors"
    return averaged if averaged.is_file() else path / "model.safetensors"


def _classifier_keys(model: nn.Module) -> list[str]:
    prefixes = tuple(f"{name}." for name in classifier_names(model))
    return [key for key in model.state_dict() if key.startswith(prefixes)]
