"""An annotator's label maps of a data set: `tools/make_token_labels.py` without its words."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.build import TimmModel
from pipeline.augment.batches import BatchTransform
from pipeline.augment.config import AugmentConfig
from pipeline.batch import Batch, Placement
from pipeline.config import CropConfig, DataConfig, InputSpec
from pipeline.formats.source import Source
from pipeline.formats.token_label_file import LabelHeader, View, labels_sha256
from pipeline.loaders.build import build_loader
from pipeline.prepare.conversion.parts import WHOLE, Part
from pipeline.prepare.conversion.token_label_parts import lock_of, part_file, samples_of
from pipeline.prepare.writers.token_label_writer import TokenLabelWriter
from pipeline.storage.locks import locked
from tools.cli.progress import ImageProgress
from tools.trained.classes import ClassMap, match_classes, read_class_map
from tools.trained.dense import dense_logits
from tools.trained.load import TrainedModel
from tools.trained.predict_split import Setting, autocast
from trainer.input_spec import spec_of


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """How maps are made."""

    view: View
    top: int
    setting: Setting
    device: torch.device
    part: Part = WHOLE
    """Whose batches are seen."""


def annotate(
    model: TrainedModel, source: Source, classes: ClassMap, how: Annotation, path: Path
) -> LabelHeader:
    """Write the maps of `source` to `path`, or a part of them beside it.

    It goes on where an earlier process left it.

    Raises:
        ValueError: if the model cannot be asked about places of an image.
        DataError: if an image cannot be read; it names it.
        OutputError: if another process writes there, or what it left is of other maps.
    """
    network = model.model.to(how.device).to(memory_format=torch.channels_last)
    spec = replace(spec_of(model.description.input), crop_pct=1.0)
    header = _header(network, model, source, classes, how, spec)
    size = how.setting.batch_size
    mine = samples_of(how.part, len(source), size)
    lock, part = lock_of(path, how.part), part_file(path, how.part)
    with locked(lock, f"{part}: another process writes it; wait for that one"):
        writer = TokenLabelWriter(part, header, mine)
        try:
            # Whole batches, so that the maps are those of an undisturbed run to the last bit.
            writer.keep(writer.done if writer.done == len(mine) else writer.done // size * size)
            with ImageProgress("token labels", len(mine)) as progress:
                progress.resume(writer.done, writer.done)
                for samples, logits in _logits(network, source, how, spec, mine[writer.done :]):
                    keys = [source.key(int(sample)) for sample in samples]
                    writer.add(keys, *_best(logits, classes, how.top))
                    progress.advance(len(samples))
            if how.part == WHOLE:
                writer.complete(path)
        finally:
            writer.close()
    lock.unlink(missing_ok=True)
    return header


def classes_of(model: TrainedModel, source: Source, table: Path | None) -> ClassMap:
    """Which outputs of the annotator are the data's classes; `table` says so where it is given.

    Raises:
        DataError: naming the classes that have no output.
    """
    return match_classes(
        source.classes,
        model.description.classes,
        num_outputs=cast("TimmModel", model.model).num_classes,
        table=None if table is None else read_class_map(table),
    )


def choose_device(name: str | None) -> torch.device:
    """The device that the user wants, or else a GPU where there is one.

    Raises:
        ValueError: if there is no such device.
    """
    wanted = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {wanted}: there is no GPU here; leave it out to use the CPU")
    try:
        return torch.device(wanted)
    except RuntimeError:
        raise ValueError(f"--device: expected cpu, cuda or cuda:N, got {wanted!r}") from None


def _header(
    network: nn.Module,
    model: TrainedModel,
    source: Source,
    classes: ClassMap,
    how: Annotation,
    spec: InputSpec,
) -> LabelHeader:
    probe = torch.zeros(1, 3, spec.size, spec.size, device=how.device)
    grid = dense_logits(network, probe).shape[2:]
    kind = f", {model.kind}" if model.kind else ""
    return LabelHeader(
        classes=source.classes,
        samples=len(source),
        labels_sha256=labels_sha256(source),
        top=min(how.top, len(classes.outputs)),
        grid=(grid[0], grid[1]),
        view=how.view,
        annotator=f"{model.description.name} ({model.origin}{kind}) at {spec.size} px",
    )


def _best(
    logits: Tensor, classes: ClassMap, top: int
) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """The data's best classes at each place, the best first, and their logits."""
    outputs = torch.from_numpy(classes.outputs).to(logits.device)
    best = logits[:, outputs].topk(min(top, len(outputs)), dim=1)
    limit = torch.finfo(torch.float16).max
    values = best.values.clamp(-limit, limit).half()
    return best.indices.cpu().numpy(), values.cpu().numpy()


def _logits(
    network: nn.Module,
    source: Source,
    how: Annotation,
    spec: InputSpec,
    samples: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Sample numbers in their order, and their (B, K, H, W) logits, batch by batch."""
    transform = BatchTransform(AugmentConfig(), spec=spec, num_classes=1, seed=0)
    for batch in _batches(source, how, spec, samples):
        seen = np.unique(batch.samples.numpy())  # the last one fills the last batch
        images = transform.evaluate(batch)
        with autocast(how.device, how.setting.amp):
            logits = dense_logits(network, images)
        yield seen, logits[: len(seen)]


def _batches(
    source: Source, how: Annotation, spec: InputSpec, samples: NDArray[np.int64]
) -> Iterator[Batch]:
    """`samples` in their order; the last one repeated to fill the last batch."""
    if not len(samples):
        return
    size = how.setting.batch_size
    places = np.arange(-(-len(samples) // size) * size).clip(max=len(samples) - 1)
    crop = CropConfig(mode="whole", hflip=0.0, interpolation=spec.interpolation)
    loader = build_loader(
        source,
        data=DataConfig(loader=how.setting.loader, crop=crop),
        augment=AugmentConfig(),
        spec=spec,
        batch_size=size,
        accumulation=1,
        placement=Placement(device=how.device),
        seed=0,
        training=how.view == "whole",
        chosen=samples[places],
    )
    with closing(loader):
        yield from loader.batches(0)
