"""A published checkpoint, made a safetensors file that timm loads."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import models
from models.build import input_config
from models.weights.checkpoint_files import read_weights
from models.weights.checkpoints import convert
from pipeline.errors import DataError
from pipeline.storage.files import finish_part, part_path


def convert_file(
    source: Path, output: Path, *, name: str, size: tuple[int, int] | None, raw: bool
) -> str:
    """Write `source` as `output`; returns what it is, in words.

    Args:
        source: the checkpoint.
        output: a .safetensors.
        name: the variant that it is of.
        size: (height, width) in pixels to resample to; None keeps its own.
        raw: take the weights, where there is a moving average, too.

    Raises:
        ValueError: if the file does not fit the model.
    """
    try:
        stored = read_weights(source, raw=raw)
    except SafetensorError as error:
        raise DataError(f"{source}: {error}") from error
    weights, model = convert(stored, name, img_size=size)
    resolved, settings = models.resolve(name)
    _write(weights, output, model=resolved, entry=stored.entry)
    height, width = input_config(model).size
    also = "".join(f" with {key}={value!r}" for key, value in settings.items())
    return (
        f"{resolved}{also}, {sum(p.numel() for p in model.parameters()):,} parameters, "
        f"{model.num_classes} classes, {height}x{width} pixels; "
        f"from {stored.entry or 'the weights'} of {source}"
    )


def _write(weights: Mapping[str, Tensor], output: Path, *, model: str, entry: str) -> None:
    """Write the file atomically."""
    part = part_path(output)
    # Copies, because safetensors refuses tensors that share memory.
    tensors = {key: w.clone(memory_format=torch.contiguous_format) for key, w in weights.items()}
    save_file(tensors, part, {"format": "pt", "model": model, "weights": entry})
    finish_part(part)
