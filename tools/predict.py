# PYTHON_ARGCOMPLETE_OK
"""Say what is on images: the most probable classes of each.

    python tools/predict.py runs/quickstart data/digits/val                  # folders, recursively
    python tools/predict.py runs/dynamixer_s cat.jpg 'photos/*.png' https://example.org/dog.jpg
    python tools/predict.py runs/dynamixer_s photos --csv predictions.csv --embeddings photos.npz

WordNet ids are shown with WordNet's words. What is no readable image is named, and the rest is
done; the exit code is 2 then. --json prints an object a line.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import command_line
from pipeline.errors import DataError
from pipeline.images.names import is_image_name
from pipeline.words import counted
from tools.cli import exits
from tools.cli.computing_options import add_computing_options
from tools.cli.model_options import ModelChoice, add_model_options, model_choice
from tools.cli.numbers import positive
from tools.cli.output_files import add_force_option, add_json_option, check_output
from tools.cli.progress import ImageProgress, importing

if TYPE_CHECKING:  # torch takes seconds to import, and mistakes are told before
    from tools.trained.predict_images import Answer

_TOP = 5


def main(argv: list[str] | None = None) -> int:
    """Predict what the arguments name; returns the exit code."""
    return exits.told(partial(_work, _parse(argv)))


def _work(arguments: argparse.Namespace) -> int:
    choice = model_choice(arguments)
    for option, suffix in (("csv", ".csv"), ("embeddings", ".npz")):
        if path := getattr(arguments, option):
            check_output(path, suffixes=(suffix,), force=arguments.force, option=f"--{option}")
    return _run(choice, list(_places(arguments.images)), arguments)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    add_model_options(parser)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES", help="images, folders of them, globs, or URLs"
    )
    parser.add_argument(
        "--top", type=positive, metavar="K", help=f"classes that are told; default: {_TOP}"
    )
    add_computing_options(parser, batch_size=32)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the predictions as CSV")
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE.npz",
        help="write what the classifier sees: embeddings (N, D), and images (N,) their names",
    )
    add_json_option(parser)
    add_force_option(parser)
    return command_line.parse(parser, argv)


def _places(words: Sequence[str]) -> Iterator[str]:
    """Files and URLs that the words stand for, in order.

    Raises:
        DataError: if there is nothing under a name, or no image in a folder.
    """
    for word in words:
        if "://" in word or Path(word).is_file():
            yield word
            continue
        found = [word] if Path(word).is_dir() else sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (patterns may be absolute)
        if not found:
            raise DataError(f"{word}: there is no such file or folder")
        for path in map(Path, found):
            if path.is_dir():
                yield from _images_below(path)
            else:
                yield str(path)


def _images_below(folder: Path) -> list[str]:
    images = sorted(str(path) for path in folder.rglob("*") if is_image_name(path.name))
    if not images:
        raise DataError(f"{folder}: there are no images in it, by their names")
    return images


def _run(choice: ModelChoice, places: Sequence[str], arguments: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in launch.py
    with redirect_stdout(sys.stderr):  # libraries speak there, too
        with importing():
            from tools.trained import predict_images
            from tools.trained.load import load

        model = load(choice)
    if arguments.top and arguments.top > (count := predict_images.num_outputs(model)):
        print(
            f"--top {arguments.top}: the model has {count} classes; all are told", file=sys.stderr
        )
    answers: list[Answer] = []
    stream = predict_images.predict_images(
        model,
        places,
        top=arguments.top or _TOP,
        batch_size=arguments.batch_size,
        device=arguments.device,
        wants_embeddings=arguments.embeddings is not None,
    )
    # On a terminal the answers themselves show how far it is.
    with ImageProgress("predict", len(places), shown=not sys.stdout.isatty()) as progress:
        for answer in stream:
            answers.append(answer)
            progress.advance(1)
            _tell(answer, as_json=arguments.json)
    for line in predict_images.write_files(
        answers, csv=arguments.csv, embeddings=arguments.embeddings
    ):
        print(line, file=sys.stderr)
    bad = sum(bool(answer.error) for answer in answers)
    if bad:
        print(
            f"error: {bad} of {counted(len(answers), 'image')} could not be read", file=sys.stderr
        )
    return exits.BAD_INPUT if bad else exits.COMPLETE


def _tell(answer: "Answer", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer.as_json()), flush=True)
    elif not answer.error:
        print(_in_words(answer), flush=True)
    if answer.error:
        print(f"{answer.image}: {answer.error}", file=sys.stderr)


def _in_words(answer: "Answer") -> str:
    told = (
        f"{100 * guess.probability:.1f} % {guess.words}"
        + (f" ({guess.name})" if guess.words != guess.name else "")
        for guess in answer.top
    )
    return f"{answer.image}: {', '.join(told)}"


if __name__ == "__main__":
    raise SystemExit(main())
