"""Python that loads what was exported, whole, for people to copy."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import models
from models.build import TimmModel
from models.weights.hub import TRAINING_ONLY
from tools.trained.load import TrainedModel


def loading_code(model: TrainedModel, path: Path, kind: str) -> str:
    """One line that makes the model of `path`.

    Args:
        model: that was exported.
        path: what was written.
        kind: one of `export.EXPORTS`.
    """
    return _LINES[kind](model, path)


def _of_timm(model: TrainedModel, path: Path) -> str:
    """Weights alone: what the model is of has to be said, wherever it is not the variant's own."""
    described = model.description
    arguments: dict[str, object] = {
        "num_classes": cast("TimmModel", model.model).num_classes,
        **{k: v for k, v in described.arguments.items() if k not in TRAINING_ONLY},
        "checkpoint_path": str(path),
    }
    said = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"{_imports(model)}; model = timm.create_model({described.name!r}, {said})"


def _of_hub(model: TrainedModel, path: Path) -> str:
    place = f"local-dir:{path}"
    return f"{_imports(model)}; model = timm.create_model({place!r}, pretrained=True)"


def _of_onnx(model: TrainedModel, path: Path) -> str:
    return f"import onnxruntime; session = onnxruntime.InferenceSession({str(path)!r})"


def _of_torch(model: TrainedModel, path: Path) -> str:
    return f"import torch; model = torch.export.load({str(path)!r}).module()"


def _imports(model: TrainedModel) -> str:
    """`models` registers ours."""
    return "import timm, models" if model.description.name in models.names() else "import timm"


_LINES: Mapping[str, Callable[[TrainedModel, Path], str]] = {
    "timm": _of_timm,
    "hub": _of_hub,
    "onnx": _of_onnx,
    "torch": _of_torch,
}
