"""A model measured on a data set: `tools/validate.py` without its words."""

import argparse
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.build import TimmModel
from pipeline.config import DataConfig, InputSpec
from pipeline.errors import DataError
from pipeline.formats.open import open_source
from pipeline.formats.source import Source
from pipeline.storage.files import write_atomically
from tools.cli.model_options import ModelChoice
from tools.cli.progress import ImageProgress
from tools.trained import reports
from tools.trained.classes import ClassMap, match_classes, read_class_map
from tools.trained.load import TrainedModel, load
from tools.trained.predict_split import Predictions, Setting, predict_split
from tools.trained.ranks import process_group
from tools.trained.scores import Scores, read_real_labels, score, score_real
from trainer.input_spec import spec_of
from trainer.process.world import World

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16, None: None}
TIMM_COLUMNS = (
    *("model", "img_size", "top1", "top1_err", "top5", "top5_err"),
    *("param_count", "crop_pct", "interpolation"),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came out."""

    data: str
    spec: InputSpec
    classes: ClassMap
    predictions: Predictions
    scores: Scores
    real: Scores | None


def measure(
    choice: ModelChoice, data: DataConfig, where: str, arguments: argparse.Namespace
) -> tuple[TrainedModel, Measured] | None:
    """Measure as the arguments of `tools/validate.py` say; None on all ranks but the first.

    Args:
        choice: the model.
        data: how to read.
        where: folder or URL of a split.
        arguments: of `tools/validate.py`.

    Raises:
        ValueError: if model and data do not go together, or one of them cannot be read.
    """
    with process_group(arguments.device) as world:
        model = load(choice)
        source = open_source(where, data)
        spec = spec_of(model.description.input)
        spec = replace(
            spec,
            crop_pct=arguments.crop_pct or spec.crop_pct,
            crop_mode=arguments.crop_mode or spec.crop_mode,
        )
        real_labels = read_real_labels(arguments.real_labels) if arguments.real_labels else None
        classes = _classes(arguments, model, source)
        predictions = _predict(model, source, spec, classes, arguments, world)
    if predictions is None:
        return None
    real = None if real_labels is None else score_real(predictions, real_labels)
    return model, Measured(
        data=where,
        spec=spec,
        classes=classes,
        predictions=predictions,
        scores=score(predictions),
        real=real,
    )


def as_json(model: TrainedModel, measured: Measured) -> dict[str, str | int | float | None]:
    """Figures by the names that programs read."""
    scores, real = measured.scores, measured.real
    return {
        **_timm_row(model, measured),
        "crop_mode": measured.spec.crop_mode,
        "weights": model.origin,
        "data": measured.data,
        "count": scores.count,
        "top1_count": scores.top1_count,
        "top5_count": scores.top5_count,
        "loss": scores.loss,
        "ece": scores.ece,
        "num_classes": len(measured.classes.names),
        "competing_classes": len(measured.classes.chosen_among),
        "real_top1": real.top1 if real else None,
        "real_top5": real.top5 if real else None,
        "real_count": real.count if real else None,
    }


def write_reports(
    model: TrainedModel, measured: Measured, arguments: argparse.Namespace
) -> Iterator[str]:
    """Write the files that are asked for; yields a line about each."""
    predictions, classes = measured.predictions, measured.classes
    if path := arguments.per_class:
        reports.write_per_class(path, predictions, classes)
        yield f"{path}: accuracy of each class"
    if path := arguments.confusion:
        picture = reports.write_confusion(path, predictions, classes)
        yield f"{path}: confusion; {picture}: its picture"
    if path := arguments.calibration:
        reports.write_calibration(path, predictions)
        yield f"{path}: calibration"
    if path := arguments.predictions:
        names = output_names(model, classes)
        reports.write_predictions(path, predictions, names)
        yield f"{path}: predictions"
    if path := arguments.results_file:
        add_result(path, _timm_row(model, measured))
        yield f"{path}: a line is added"


def output_names(model: TrainedModel, classes: ClassMap) -> list[str]:
    """Names of all outputs: the model's own, else those of the data, else their numbers."""
    names = [str(i) for i in range(classes.num_outputs)]
    for output, name in zip(classes.outputs.tolist(), classes.names, strict=True):
        names[output] = name
    names[: len(model.description.classes)] = model.description.classes
    return names


def add_result(path: Path, row: dict[str, str | int | float]) -> None:
    """Add a line to a CSV in timm's columns.

    Raises:
        DataError: if the file has other columns.
    """
    header = ",".join(TIMM_COLUMNS)
    before = path.read_text(encoding="utf-8") if path.exists() else f"{header}\n"
    if before.partition("\n")[0].strip() != header:
        raise DataError(f"{path}: does not have timm's columns, {header}; name another file")
    line = io.StringIO()
    csv.DictWriter(line, TIMM_COLUMNS, lineterminator="\n").writerow(row)
    write_atomically(path, (before + line.getvalue()).encode())


def _timm_row(model: TrainedModel, measured: Measured) -> dict[str, str | int | float]:
    scores, spec = measured.scores, measured.spec
    return {
        "model": model.description.name,
        "img_size": spec.size,
        "top1": round(scores.top1, 4),
        "top1_err": round(100 - scores.top1, 4),
        "top5": round(scores.top5, 4),
        "top5_err": round(100 - scores.top5, 4),
        "param_count": round(model.num_parameters / 1e6, 2),
        "crop_pct": spec.crop_pct,
        "interpolation": spec.interpolation,
    }


def _classes(arguments: argparse.Namespace, model: TrainedModel, source: Source) -> ClassMap:
    network: TimmModel = model.model  # pyright: ignore[reportAssignmentType] (timm's protocol)
    return match_classes(
        source.classes,
        model.description.classes,
        num_outputs=network.num_classes,
        table=read_class_map(arguments.class_map) if arguments.class_map else None,
        all_compete=arguments.all_classes,
    )


def _predict(
    model: TrainedModel,
    source: Source,
    spec: InputSpec,
    classes: ClassMap,
    arguments: argparse.Namespace,
    world: World,
) -> Predictions | None:
    setting = Setting(
        batch_size=arguments.batch_size,
        loader=arguments.loader,
        amp=AMP[arguments.amp],
        flip=arguments.tta == "flip",
    )
    with ImageProgress("validate", len(source), shown=world.is_main) as progress:

        def advance(images: int) -> None:
            progress.advance(images * world.world_size)

        return predict_split(
            model.model,
            source,
            spec=spec,
            classes=classes,
            setting=setting,
            world=world,
            advance=advance,
        )
