"""Files of a trained model for other programs, loaded again and compared before they count."""

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.weights.hub import CONFIG_FILE, WEIGHTS_FILE, hub_config, load_folder
from pipeline.errors import DataError, OutputError
from pipeline.storage.files import sync
from tools.cli.output_files import write_file
from tools.trained.card import card
from tools.trained.load import TrainedModel

_TOLERANCE = 1e-3
"""Of the largest logit: other programs add in another order, in float32."""
_MAX_BATCH = 4096


def export_timm(model: TrainedModel, path: Path) -> None:
    """One safetensors file; its metadata describes the model."""

    def write(draft: Path) -> None:
        _save_weights(model, draft)
        stored = load_file(draft)
        expected = model.model.state_dict()
        same = stored.keys() == expected.keys()
        if not (same and all(torch.equal(stored[key], expected[key]) for key in stored)):
            raise OutputError(f"{path}: reads back otherwise than it was written; check the disk")

    write_file(path, write)


def export_hub(model: TrainedModel, folder: Path) -> None:
    """A folder as the hub has them, with a card; one that exists is replaced as a whole."""
    folder = folder.absolute()
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    draft.mkdir()
    try:
        config = hub_config(model.model, model.description)
        (draft / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        _save_weights(model, draft / WEIGHTS_FILE)
        (draft / "README.md").write_text(card(model, name=folder.name), encoding="utf-8")
        again = load_folder(draft).eval()
        _compare(folder, model, again)
        for path in (*draft.iterdir(), draft):
            sync(path)
        if folder.exists():
            _remove_exported(folder)
        draft.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def export_onnx(model: TrainedModel, path: Path) -> None:
    """An ONNX file of any batch size: `images` (batch, 3, H, W), normalised, to `logits`."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise DataError(
            f"--format onnx: {error}; pip install onnx onnxruntime onnxscript"
        ) from error

    def write(draft: Path) -> None:
        with _quiet():
            torch.onnx.export(
                model.model,
                (_images(model, 2),),
                draft,
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=_MAX_BATCH)},),
            )
        stored = onnx.load(draft)
        onnx.helper.set_model_props(stored, _metadata(model))
        onnx.checker.check_model(stored)
        onnx.save(stored, draft)
        session = onnxruntime.InferenceSession(draft, providers=["CPUExecutionProvider"])

        def run(images: Tensor) -> Tensor:
            (logits,) = session.run(["logits"], {"images": images.numpy()})
            return torch.from_numpy(cast("object", logits))  # pyright: ignore[reportArgumentType]

        _compare(path, model, run)

    write_file(path, write)


def export_torch(model: TrainedModel, path: Path) -> None:
    """A program for `torch.export.load`; the description is in its `description.json`."""

    def write(draft: Path) -> None:
        batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
        with _quiet():
            program = torch.export.export(
                model.model, (_images(model, 2),), dynamic_shapes=({0: batch},), strict=False
            )
            description = json.dumps(_metadata(model))
            torch.export.save(program, draft, extra_files={"description.json": description})
            again = torch.export.load(draft).module()
        _compare(path, model, again)

    write_file(path, write)


EXPORTS: Mapping[str, Callable[[TrainedModel, Path], None]] = {
    "timm": export_timm,
    "hub": export_hub,
    "onnx": export_onnx,
    "torch": export_torch,
}


def _metadata(model: TrainedModel) -> dict[str, str]:
    said = {**model.description.as_metadata(), "weights": model.kind or "raw"}
    if model.meta is not None:
        said["step"] = str(model.meta.progress.step)
    return said


def _save_weights(model: TrainedModel, path: Path) -> None:
    # Copies, because safetensors refuses tensors that share memory.
    tensors = {
        key: weight.clone(memory_format=torch.contiguous_format)
        for key, weight in model.model.state_dict().items()
    }
    save_file(tensors, path, {"format": "pt", **_metadata(model)})


def _images(model: TrainedModel, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *model.description.input.size, generator=generator)


@torch.no_grad()
def _compare(path: Path, model: TrainedModel, other: Callable[[Tensor], Tensor]) -> None:
    """See that `other` computes the same for one image and for three.

    Raises:
        OutputError: if it does not.
    """
    for batch in (1, 3):
        images = _images(model, batch)
        expected, found = model.model(images), other(images)
        off = float((found - expected).abs().max() / expected.abs().max())
        if not off <= _TOLERANCE:
            raise OutputError(
                f"{path}: what was written computes otherwise (logits differ by {off:.1e} of the"
                " largest) and is not kept; please report it with the model's name"
            )


def _remove_exported(folder: Path) -> None:
    """Remove a folder that an earlier export wrote, and nothing else.

    Raises:
        OutputError: if other files are in it.
    """
    others = {p.name for p in folder.iterdir()} - {CONFIG_FILE, WEIGHTS_FILE, "README.md"}
    if others:
        raise OutputError(
            f"{folder}: holds other files, such as {min(others)}, which --force would remove; name"
            " another folder"
        )
    shutil.rmtree(folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' own use of what torch and onnxscript deprecate is not the user's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
