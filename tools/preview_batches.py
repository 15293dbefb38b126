"""Look at training images as the model sees them: cropped, augmented, erased and mixed.

    python tools/preview_batches.py --config configs/quickstart.yaml        # writes batch.png
    python tools/preview_batches.py --config R.yaml --samples 3,17,20:40 --epoch 7 --dump DIR
    python tools/preview_batches.py --config R.yaml --samples 0:1000 --dump DIR --draws-only

Above each image stand the classes of its target with their shares, as far as label smoothing alone
does not explain them, and the operations that were drawn for it. Epoch and batch number choose any
batch of the run, past or to come: on one GPU without accumulation the pixels are the very ones that
the model gets. With --dump, DIR/SAMPLE_EPOCH.png has the pixels that the loader yields, before they
are normalised, erased and mixed, and DIR/draws.jsonl an object with all draws of each sample. Exit
codes: 0 written; 2 the recipe, the data or the arguments cannot be used; 74 writing failed.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Tensor

from models.build import build_model
from pipeline.augment.batches import BatchTransform
from pipeline.batch import Batch, Placement
from pipeline.config import InputSpec
from pipeline.formats.open import open_split
from pipeline.loaders.build import build_loader
from pipeline.loaders.draw_records import DrawnRun, Record
from pipeline.storage.files import finish_part, part_path, write_atomically
from tools.cli import exits
from trainer import yaml_config
from trainer.input_spec import input_spec, take_input
from trainer.recipe import Recipe

_COLUMNS = 8


class Preview(NamedTuple):
    """Images (B, 3, H, W) as displayed, from 0 to 1; and what to write above each."""

    images: Tensor
    titles: list[str]


def main(argv: list[str] | None = None) -> int:
    """Write what is asked for; returns the exit code."""
    arguments = _parse(argv)
    try:
        recipe = yaml_config.load(Recipe, arguments.config, arguments.overrides)
        run, num_classes = drawn_run(recipe)
        if arguments.samples is None:
            number, per_gpu = arguments.batch, recipe.batch.known_per_gpu
            order = run.order(arguments.epoch)
            if not 0 <= number < len(order) // per_gpu:
                last = len(order) // per_gpu - 1
                raise ValueError(f"--batch: an epoch has batches 0 to {last}, got {number}")
            draws = order[number * per_gpu : (number + 1) * per_gpu]
        else:
            draws = run.draws_of(arguments.samples, arguments.epoch)
        if arguments.dump is not None:
            dump(run, draws, arguments.epoch, arguments.dump, pixels=not arguments.draws_only)
            print(f"{arguments.dump}: {len(draws)} samples of epoch {arguments.epoch}")
            return exits.COMPLETE
        preview = previewed(run, draws, arguments.epoch, num_classes)
        title = f"{arguments.config.stem}: epoch {arguments.epoch}"
        title += f", batch {arguments.batch}" if arguments.samples is None else ""
        draw(preview, arguments.output, count=arguments.images, title=title)
    except (ValueError, OSError) as error:
        code, message = exits.explain(error, go_on="run the same command again")
        print(f"error: {message}", file=sys.stderr)
        return code
    print(f"batch: {arguments.output}")
    return exits.COMPLETE


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="recipe, a YAML file")
    parser.add_argument("--epoch", type=int, default=0, help="from 0, as are batches and samples")
    parser.add_argument("--batch", type=int, default=0, help="number within the epoch")
    parser.add_argument(
        "--samples", type=_numbers, metavar="3,17,20:40", help="instead of a batch: these samples"
    )
    parser.add_argument("--images", type=int, default=32, help="how many to draw at most")
    parser.add_argument("--output", type=Path, default=Path("batch.png"), help="picture to write")
    parser.add_argument("--dump", type=Path, metavar="DIR", help="write pixels and draws instead")
    parser.add_argument(
        "--draws-only", action="store_true", help="with --dump: no pixels, nothing is decoded"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    arguments = parser.parse_args(argv)
    if arguments.draws_only and arguments.dump is None:
        parser.error("--draws-only has no effect without --dump DIR")
    return arguments


def _numbers(text: str) -> list[int]:
    """Read numbers and half-open ranges such as `3,17,20:40`."""
    found: list[int] = []
    for part in text.split(","):
        first, colon, end = part.partition(":")
        if not (first.isdecimal() and (end.isdecimal() if colon else True)):
            raise argparse.ArgumentTypeError(f"expected numbers such as 3,17,20:40, got {part!r}")
        if colon and int(end) <= int(first):
            raise argparse.ArgumentTypeError(f"{part!r} has no number in it; 3:20 is 3 up to 19")
        found += range(int(first), int(end)) if colon else [int(first)]
    return found


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
    write_atomically(folder / "draws.jsonl", lines.encode())
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


def draw(preview: Preview, output: Path, *, count: int, title: str) -> None:
    """Write the first `count` images as a PNG, each with its title above it."""
    count = min(count, len(preview.images))
    rows = -(-count // _COLUMNS)
    lines = max(title.count("\n") + 1 for title in preview.titles[:count])
    figure, axes = plt.subplots(
        rows,
        _COLUMNS,
        figsize=(1.6 * _COLUMNS, (1.75 + 0.12 * lines) * rows + 0.4),
        squeeze=False,
    )
    figure.suptitle(title)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, words in islice(zip(axes.flat, *preview, strict=False), count):
        axis.imshow(image.permute(1, 2, 0).numpy())
        axis.set_title(words, fontsize=6.5)
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(output)
    figure.savefig(part, dpi=120, format="png")
    finish_part(part)
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
            recipe.model.name,
            num_classes=num_classes,
            img_size=recipe.model.img_size,
            arguments=recipe.model.args,
        )
    take_input(model, recipe)
    return input_spec(model)


if __name__ == "__main__":
    raise SystemExit(main())
