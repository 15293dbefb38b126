# PYTHON_ARGCOMPLETE_OK
"""Ask a trained model which classes it sees at each place of each training image.

    python tools/make_token_labels.py dm_nfnet_f6 --data shards/imagenet --img-size 576
    python tools/make_token_labels.py runs/annotator --data shards/digits
    python tools/make_token_labels.py runs/annotator --data shards/digits --part 3/8   # one of 8
    python tools/make_token_labels.py runs/annotator --data shards/digits --merge   # when all are

The classifier is applied to the features before pooling; the best classes of each place and their
logits go into one file, FOLDER/train.token_labels unless --output says otherwise, which a recipe
names as `token_labels.file`. Stopped or killed, it goes on where it was. docs/token_labels.md has
the format and the choice of views.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import os
from functools import partial
from pathlib import Path

from pipeline import command_line
from pipeline.errors import DataError
from pipeline.formats.token_label_file import SUFFIX, LabelHeader, TokenLabelFile
from pipeline.prepare.conversion.parts import WHOLE
from pipeline.words import counted
from tools.cli import exits
from tools.cli.computing_options import add_computing_options, add_data_computing_options
from tools.cli.model_options import ModelChoice, add_model_options, model_choice
from tools.cli.numbers import positive
from tools.cli.output_files import add_force_option, check_output
from tools.cli.part_options import add_part_options
from tools.cli.progress import ImageProgress


def main(argv: list[str] | None = None) -> int:
    """Make the file that the arguments name; returns the exit code."""
    return exits.told(partial(_work, _parse(argv)))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    add_model_options(parser)
    parser.add_argument("--data", required=True, metavar="FOLDER", help="holds the split")
    parser.add_argument(
        "--split", default="train", metavar="NAME", help="folder in it; default: train"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"ends in {SUFFIX}")
    parser.add_argument(
        "--view",
        choices=("whole", "centre"),
        default="whole",
        help="show the annotator the whole image, made square, or its central square, as the"
        " authors do, whose maps are then taken for maps of the whole; default: whole",
    )
    parser.add_argument(
        "--top",
        type=positive,
        default=5,
        metavar="K",
        help="classes kept of each place; default: 5",
    )
    parser.add_argument("--class-map", type=Path, metavar="CSV", help="wnid,index: name and output")
    add_computing_options(parser, batch_size=32)
    add_data_computing_options(parser)
    add_part_options(parser)
    add_force_option(parser)
    return command_line.parse(parser, argv)


def _work(arguments: argparse.Namespace) -> int:
    choice = model_choice(arguments)
    if arguments.class_map is not None and not arguments.class_map.is_file():
        raise DataError(f"--class-map: {arguments.class_map}: there is no such file")
    if "://" in arguments.data and arguments.output is None:
        raise DataError("--output: say where the maps of data from a URL go")
    root = arguments.data.rstrip("/")
    if "://" not in root and not Path(root).is_dir():
        raise DataError(f"--data: {root}: there is no such folder")
    output = arguments.output or Path(root, f"{arguments.split}{SUFFIX}")
    check_output(output, suffixes=(SUFFIX,), force=arguments.force)
    split = f"{root}/{arguments.split}"
    if arguments.merge:
        print(_merge(split, output, arguments.batch_size))
    else:
        print(_run(choice, arguments, split, output))
    return exits.COMPLETE


def _run(choice: ModelChoice, arguments: argparse.Namespace, split: str, output: Path) -> str:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in launch.py
    # Imported here, because it takes seconds: a mistake in the arguments has been told by now.
    from pipeline.formats.open import open_source
    from tools.trained.annotate import Annotation, annotate, choose_device, classes_of
    from tools.trained.load import load
    from tools.trained.measure import AMP
    from tools.trained.predict_split import Setting

    device = choose_device(arguments.device)
    source, model = open_source(split), load(choice)
    how = Annotation(
        view=arguments.view,
        top=arguments.top,
        setting=Setting(
            batch_size=arguments.batch_size, loader=arguments.loader, amp=AMP[arguments.amp]
        ),
        device=device,
        part=arguments.part,
    )
    header = annotate(model, source, classes_of(model, source, arguments.class_map), how, output)
    if how.part != WHOLE:
        return f"{output}: part {how.part} is written; when all are, run the same with --merge"
    return _in_words(header, output)


def _merge(split: str, output: Path, batch_size: int) -> str:
    from pipeline.formats.open import open_source
    from pipeline.prepare.conversion.token_label_parts import merge

    source = open_source(split)
    with ImageProgress("token labels", len(source)) as progress:
        merge(output, source, batch_size, progress.advance)
    return _in_words(TokenLabelFile(output).header, output)


def _in_words(header: LabelHeader, output: Path) -> str:
    rows, columns = header.grid
    return (
        f"{output}: {header.top} classes at each of {rows}x{columns} places of"
        f" {counted(header.samples, 'image')}, by {header.annotator}; train with"
        f" token_labels.file={output}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
