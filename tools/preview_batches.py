# PYTHON_ARGCOMPLETE_OK
"""Look at training images as the model sees them: cropped, augmented, erased and mixed.

    python tools/preview_batches.py --config configs/quickstart.yaml        # writes batch.png
    python tools/preview_batches.py --config R.yaml --samples 3,17,20:40 --epoch 7 --dump DIR
    python tools/preview_batches.py --config R.yaml --samples 0:1000 --dump DIR --draws-only

Above each image stand the classes of its target with their shares, as far as label smoothing alone
does not explain them, and the operations that were drawn for it. Epoch and batch number choose any
batch of the run, past or to come: on one GPU without accumulation the pixels are the very ones that
the model gets. With --dump, DIR/SAMPLE_EPOCH.png has the pixels that the loader yields, before they
are normalised, erased and mixed, and DIR/draws.jsonl an object with all draws of each sample.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import command_line
from pipeline.errors import DataError
from pipeline.words import counted
from tools.cli import exits
from tools.cli.numbers import positive
from tools.cli.output_files import add_force_option, check_output
from tools.cli.progress import importing
from tools.preview.dump_folder import check_dump_folder
from trainer import yaml_config
from trainer.recipe import Recipe
from trainer.recipe_keys import add_config_option, add_overrides

if TYPE_CHECKING:  # torch takes seconds to import, and mistakes are told before
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.loaders.draw_records import DrawnRun

_IMAGES = 32


def main(argv: list[str] | None = None) -> int:
    """Write what is asked for; returns the exit code."""
    return exits.told(partial(_work, _parse(argv)))


def _work(arguments: argparse.Namespace) -> int:
    output = arguments.output or Path("batch.png")
    if arguments.dump is None:
        check_output(output, suffixes=(".png",), force=arguments.force)
    else:
        check_dump_folder(arguments.dump, force=arguments.force)
    recipe = yaml_config.load(Recipe, arguments.config, arguments.overrides)
    epochs = recipe.schedule.total_epochs
    if not 0 <= arguments.epoch < epochs:
        raise DataError(
            f"--epoch: the recipe has {counted(epochs, 'epoch')}, counted from 0 to {epochs - 1};"
            f" got {arguments.epoch}"
        )
    with importing():
        from tools.preview import drawn, picture

    run, num_classes = drawn.drawn_run(recipe)
    draws = _draws(run, recipe, arguments)
    if arguments.dump is not None:
        pixels = not arguments.draws_only
        drawn.dump(run, draws, arguments.epoch, arguments.dump, pixels=pixels)
        print(f"{arguments.dump}: {counted(len(draws), 'sample')} of epoch {arguments.epoch}")
        return exits.COMPLETE
    preview = drawn.previewed(run, draws, arguments.epoch, num_classes)
    title = f"{arguments.config.stem}: epoch {arguments.epoch}"
    title += f", batch {arguments.batch or 0}" if arguments.samples is None else ""
    picture.draw(preview, output, count=arguments.images or _IMAGES, title=title)
    print(f"batch: {output}")
    return exits.COMPLETE


def _draws(run: "DrawnRun", recipe: Recipe, arguments: argparse.Namespace) -> "NDArray[np.int64]":
    """The draws of the samples or of the batch that is asked for."""
    if arguments.samples is not None:
        return run.draws_of(arguments.samples, arguments.epoch)
    number, per_gpu = arguments.batch or 0, recipe.batch.known_per_gpu
    order = run.order(arguments.epoch)
    if not 0 <= number < len(order) // per_gpu:
        last = len(order) // per_gpu - 1
        raise DataError(f"--batch: an epoch has batches 0 to {last}, got {number}")
    return order[number * per_gpu : (number + 1) * per_gpu]


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    add_config_option(parser, required=True)
    parser.add_argument(
        "--epoch", type=int, default=0, metavar="N", help="counted from 0, as all here; default: 0"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--batch", type=int, metavar="N", help="of the epoch; default: 0")
    chosen.add_argument(
        "--samples", type=_numbers, metavar="3,17,20:40", help="instead of a batch: these samples"
    )
    parser.add_argument(
        "--images", type=positive, metavar="N", help=f"drawn at most; default: {_IMAGES}"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="picture to write; default: batch.png"
    )
    parser.add_argument("--dump", type=Path, metavar="DIR", help="write pixels and draws instead")
    parser.add_argument(
        "--draws-only", action="store_true", help="with --dump: no pixels, nothing is decoded"
    )
    add_force_option(parser)
    add_overrides(parser)
    arguments = command_line.parse(parser, argv)
    if arguments.draws_only and arguments.dump is None:
        parser.error("--draws-only has no effect without --dump DIR")
    for name in ("images", "output"):
        if arguments.dump is not None and getattr(arguments, name) is not None:
            parser.error(f"--{name} has no effect with --dump, which draws no picture")
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


if __name__ == "__main__":
    raise SystemExit(main())
