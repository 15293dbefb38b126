"""Weights as they lie in files: safetensors, or what torch.save wrote.

A file may be a plain state_dict, timm's saver (`state_dict`, `state_dict_ema`) or AMixer's
(`model`, `model_ema`). Nothing is unpickled but tensors, plain containers, numbers and paths.
"""

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

AVERAGED = ("state_dict_ema", "model_ema")
RAW = ("state_dict", "model")
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""

_COUNTER_OF_AVERAGES = "n_averaged"
"""What torch.optim.swa_utils.AveragedModel puts beside them."""

_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS = [
    argparse.Namespace,
    # Metrics and arguments beside the weights; their values are not used.
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
    (PurePosixPath, "pathlib.PosixPath"),
    PurePosixPath,
]

Weights = dict[str, Tensor]


class WeightsError(ValueError):
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
        WeightsError: if there are no weights in it, or it holds arbitrary objects.
        FileNotFoundError: if there is no file.
    """
    content = _read(path)
    candidates = RAW if raw else AVERAGED + RAW
    entry = next((n for n in candidates if isinstance(content.get(n), Mapping) and content[n]), "")
    averaged = [name for name in AVERAGED if content.get(name)]
    if raw and averaged and not entry:
        raise WeightsError(
            f"{path}: holds a moving average alone, {averaged[0]}; take it, without asking for raw "
            "weights"
        )
    if entry:
        content = cast("Mapping[object, object]", content[entry])
    weights = {}
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise WeightsError(
                f"{path}: expected weights by their names, but {key!r} is a"
                f" {type(value).__name__}; known are plain state_dicts and files with one of"
                f" {', '.join(candidates)}"
            )
        weights[key] = value
    if not weights:
        raise WeightsError(f"{path}: there are no weights in it")
    return Stored(path=path, entry=entry, weights=_unwrapped(weights))


def _read(path: Path) -> Mapping[object, object]:
    if path.is_dir():
        raise WeightsError(f"{path}: a folder; name the file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    with path.open("rb") as file:
        start = file.read(9)
    try:
        if path.suffix == ".safetensors" or start[8:] == b"{":
            return cast("Mapping[object, object]", load_file(path))
        if not start.startswith((b"PK", b"\x80")):
            raise WeightsError(
                f"{path}: not a checkpoint: neither safetensors nor what torch.save writes; it"
                f" starts with {start!r}"
            )
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"an object of type {found[1]}" if found else "what is no tensor"
        raise WeightsError(
            f"{path}: refused, because it holds {what}, and unpickling that could run any code; "
            "where you trust the file, save its state_dict alone and convert that"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise WeightsError(f"{path}: not a readable checkpoint ({error})") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: expected a dictionary, got a {type(content).__name__}")
    return content


def _unwrapped(weights: Weights) -> Weights:
    if weights.keys() - {_COUNTER_OF_AVERAGES}:
        weights = {key: value for key, value in weights.items() if key != _COUNTER_OF_AVERAGES}
    for prefix in WRAPPER_PREFIXES * 2:  # they occur in both orders
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights
