"""The images of a run's batches or samples, as loaders yield them and as the model sees them."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from models.build import build_model
from pipeline.augment.batches import BatchTransform
from pipeline.batch import Batch, Placement
from pipeline.config import InputSpec
from pipeline.formats.open import open_split
from pipeline.loaders.build import build_loader
from pipeline.loaders.draw_records import DrawnRun, Record
from pipeline.storage.files import finish_part, part_path, write_atomically
from tools.preview.dump_folder import DRAWS_NAME
from tools.preview.picture import Preview
from trainer.input_spec import input_spec, take_input
from trainer.recipe import Recipe
from trainer.record.report.targets import target_text


def drawn_run(recipe: Recipe) -> tuple[DrawnRun, int]:
    """Return what the draws of a recipe's run depend on, and its number of classes.

    Raises:
        ValueError: if the recipe or the data cannot be used.
    """
    source = open_split(recipe.data, "train")
    num_classes = recipe.model.num_classes or len(source.classes)
    run = DrawnRun(
        source=source,
        data=recipe.data,
        augment=recipe.augment,
        spec=_spec(recipe, num_classes),
        seed=recipe.run.seed,
        global_size=recipe.batch.global_size,
        per_gpu=recipe.batch.known_per_gpu,
    )
    return run, num_classes


def loaded(run: DrawnRun, draws: NDArray[np.int64], epoch: int, *, at_once: int) -> Iterator[Batch]:
    """Yield the pixels of `draws`, as the loader of the run gives them, `at_once` at a time."""
    loader = build_loader(
        run.source,
        data=run.data,
        augment=run.augment,
        spec=run.spec,
        batch_size=at_once,
        accumulation=1,
        placement=Placement(),
        seed=run.seed,
        training=True,
        chosen=draws,
    )
    with closing(loader):
        yield from loader.batches(epoch)


def dump(
    run: DrawnRun, draws: NDArray[np.int64], epoch: int, folder: Path, *, pixels: bool
) -> None:
    """Write the draws, and the pixels before whatever is done to the whole batch."""
    folder.mkdir(parents=True, exist_ok=True)
    records = list(run.records(draws, epoch))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    write_atomically(folder / DRAWS_NAME, lines.encode())
    if not pixels:
        return
    batches = loaded(run, draws, epoch, at_once=1)
    for record, batch in zip(track(records, "pixels"), batches, strict=True):
        repeat = f"_{record['repeat']}" if "repeat" in record else ""
        path = folder / f"{record['sample']}_{record['epoch']}{repeat}.png"
        part = part_path(path)
        image = Image.fromarray(batch.images[0].permute(1, 2, 0).numpy())
        image.save(part, format="PNG")
        finish_part(part)


def previewed(run: DrawnRun, draws: NDArray[np.int64], epoch: int, num_classes: int) -> Preview:
    """Return the images of `draws` after all that is done to them, neighbours mixed."""
    (batch,) = loaded(run, draws, epoch, at_once=len(draws))
    augment = run.augment
    if len(draws) % 2 or not _is_whole(run, draws, epoch):
        # Partners are not there: each image is shown by itself, and its partner is named.
        augment = replace(
            augment, mixup=0.0, cutmix=0.0, mix_prob=1.0, mix_off_epoch=0, correct_lam=True
        )
    transform = BatchTransform(augment, spec=run.spec, num_classes=num_classes, seed=run.seed)
    images, targets = transform.train(batch, epoch)
    std, mean = (torch.tensor(value)[:, None, None] for value in (run.spec.std, run.spec.mean))
    titles = [
        "\n".join([target_text(target, run.source.classes), *_in_words(record)])
        for target, record in zip(targets, run.records(draws, epoch), strict=True)
    ]
    return Preview((images * std + mean).clamp(0, 1), titles)


def _is_whole(run: DrawnRun, draws: NDArray[np.int64], epoch: int) -> bool:
    """Whether the draws are neighbours in the epoch's order, so that they mix among themselves."""
    order = run.order(epoch)
    starts = np.flatnonzero(order == draws[0])
    return len(starts) > 0 and np.array_equal(order[starts[0] :][: len(draws)], draws)


def _in_words(record: Record) -> list[str]:
    """Return the operations of an image, a line each, and whom it is mixed with."""
    lines = []
    for operation in cast("list[dict[str, object]]", record["ops"]):
        arg = operation["arg"]
        value = f" {arg:.3g}" if isinstance(arg, float) else "" if arg is None else f" {arg}"
        lines.append(f"{operation['name']}{value}")
    if record["partner"] is not None:
        lines.append(f"with {record['partner']} at {1 - cast('float', record['weight']):.2f}")
    return lines


def _spec(recipe: Recipe, num_classes: int) -> InputSpec:
    with torch.device("meta"):  # what the model is fed with; its weights are of no interest
        model = build_model(
            recipe.model.name,
            num_classes=num_classes,
            img_size=recipe.model.img_size,
            arguments=recipe.model.args,
        )
    take_input(model, recipe)
    return input_spec(model)
