"""Draw a training batch as the model sees it: cropped, flipped, erased and mixed.

python tools/preview_batches.py --config configs/quickstart.yaml        # writes batch.png

Above each image stand the classes of its target with their shares, as far as label smoothing alone
does not explain them. Epoch and batch number choose any batch of the run, past or to come: on one
GPU without accumulation the pixels are the very ones that the model gets.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl

mpl.use("Agg")
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from models.build import build_model
from pipeline.augment.batches import BatchTransform
from pipeline.batch import Placement
from pipeline.config import InputSpec
from pipeline.formats.open import open_split
from pipeline.loaders.build import build_loader
from tools.cli import exits
from trainer import yaml_config
from trainer.input_spec import input_spec
from trainer.recipe import Recipe

_COLUMNS = 8


class TrainingBatch(NamedTuple):
    """Images (B, 3, H, W) as displayed, from 0 to 1; targets (B, C); names of the classes."""

    images: Tensor
    targets: Tensor
    classes: tuple[str, ...]


def main(argv: list[str] | None = None) -> int:
    """Write the picture; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="recipe, a YAML file")
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--batch", type=int, default=0, help="number within the epoch, from 0")
    parser.add_argument("--images", type=int, default=32, help="how many of the batch to draw")
    parser.add_argument("--output", type=Path, default=Path("batch.png"))
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    arguments = parser.parse_args(argv)
    try:
        recipe = yaml_config.load(Recipe, arguments.config, arguments.overrides)
        batch = training_batch(recipe, epoch=arguments.epoch, number=arguments.batch)
    except ValueError as error:  # of the recipe or of the data
        print(f"error: {error}", file=sys.stderr)
        return exits.BAD_INPUT
    title = f"{arguments.config.stem}: epoch {arguments.epoch}, batch {arguments.batch}"
    draw(batch, arguments.output, count=arguments.images, title=title)
    print(f"batch: {arguments.output}")
    return 0


def training_batch(recipe: Recipe, *, epoch: int, number: int) -> TrainingBatch:
    """Return batch `number` of `epoch`, as one rank without accumulation gets it.

    Raises:
        ValueError: if the recipe, the data or the number cannot be used.
    """
    source = open_split(recipe.data, "train")
    num_classes = recipe.model.num_classes or len(source.classes)
    spec = _spec(recipe, num_classes)
    loader = build_loader(
        source,
        data=recipe.data,
        augment=recipe.augment,
        spec=spec,
        batch_size=recipe.batch.per_gpu,
        accumulation=1,
        placement=Placement(),
        seed=recipe.run.seed,
        training=True,
    )
    with closing(loader):
        batch = next(loader.batches(epoch, number), None)
        if batch is None:
            raise ValueError(f"--batch: an epoch has batches 0 to {number - 1}, got {number}")
        transform = BatchTransform(
            recipe.augment, spec=spec, num_classes=num_classes, seed=recipe.run.seed
        )
        images, targets = transform.train(batch, epoch)
    std, mean = (torch.tensor(value)[:, None, None] for value in (spec.std, spec.mean))
    return TrainingBatch((images * std + mean).clamp(0, 1), targets, source.classes)


def draw(batch: TrainingBatch, output: Path, *, count: int, title: str) -> None:
    """Write the first `count` images as a PNG, each with its target above it."""
    count = min(count, len(batch.images))
    rows = -(-count // _COLUMNS)
    figure, axes = plt.subplots(
        rows, _COLUMNS, figsize=(1.6 * _COLUMNS, 1.9 * rows + 0.4), squeeze=False
    )
    figure.suptitle(title)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, target in islice(zip(axes.flat, *batch[:2], strict=False), count):
        axis.imshow(image.permute(1, 2, 0).numpy())
        axis.set_title(target_text(target, batch.classes), fontsize=7)
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)
    plt.close(figure)


def target_text(target: Tensor, classes: Sequence[str]) -> str:
    """Name the class of a target, or two with their shares if images are mixed."""
    shares, positions = target.topk(min(2, len(target)))
    background = target.min()  # what label smoothing gives to every class
    first, *rest = [
        (classes[int(position)], float(share))
        for share, position in zip(shares, positions, strict=True)
        if share > background + 0.005
    ]
    if not rest:
        return first[0]
    return "\n".join(f"{share:.0%} {name}" for name, share in (first, *rest))


def _spec(recipe: Recipe, num_classes: int) -> InputSpec:
    with torch.device("meta"):  # what the model is fed with; its weights are of no interest
        model = build_model(
            recipe.model.name, num_classes=num_classes, img_size=recipe.model.img_size
        )
    return input_spec(model, recipe.data)


if __name__ == "__main__":
    raise SystemExit(main())
