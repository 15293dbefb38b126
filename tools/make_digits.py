# PYTHON_ARGCOMPLETE_OK
"""Write scikit-learn's 1,797 handwritten digits as an ImageNet-style folder of JPEGs.

    python tools/make_digits.py data/digits

The 8x8 pictures become 32x32 JPEGs under train/CLASS and val/CLASS: 1,437 to train on and 360 to
evaluate on, split once and for all. A folder of digits that is already there and complete is left
alone; one that holds anything else is refused.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import command_line
from pipeline.errors import DataError, OutputError
from pipeline.storage.files import PART_SUFFIX, finish_part, part_path
from tools.cli import exits
from tools.cli.output_files import check_output_folder

if TYPE_CHECKING:  # it takes a moment to import
    import numpy as np

NUM_VALIDATION = 360
SIZE = 32
SPLIT_SEED = 0
_SPLITS = ("train", "val")
_CLASSES = frozenset("0123456789")
_FILE = re.compile(rf"digit_\d{{4}}\.jpg(\.\d+{re.escape(PART_SUFFIX)})?")


def main(argv: list[str] | None = None) -> int:
    """Write the folder; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    parser.add_argument("folder", type=Path, help="gets train/ and val/")
    return exits.told(partial(_work, command_line.parse(parser, argv)))


def _work(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    check_output_folder(folder, option="FOLDER")
    refuse_other_content(folder)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(f"the digits ship with scikit-learn ({error}): install it") from error
    import numpy as np
    from rich.progress import track

    pictures, labels = load_digits(return_X_y=True)
    in_validation = np.zeros(len(labels), dtype=bool)
    permuted = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    in_validation[permuted[:NUM_VALIDATION]] = True
    for i in track(range(len(labels)), description="digits"):
        split = "val" if in_validation[i] else "train"
        path = folder / split / str(labels[i]) / f"digit_{i:04d}.jpg"
        if not path.exists():
            _write_jpeg(path, pictures[i].reshape(8, 8))
    print(f"{folder}: {(~in_validation).sum()} training and {in_validation.sum()} val images")
    return exits.COMPLETE


def refuse_other_content(folder: Path) -> None:
    """See that no other data set gets digits among its images.

    Raises:
        OutputError: naming what is not of this one.
    """
    splits = [path for path in _shown(folder) if path.name in _SPLITS]
    others = [] if splits else _shown(folder)
    for split in splits:
        classes = _shown(split)
        others += [p for p in classes if not (p.name in _CLASSES and p.is_dir())]
        files = [path for name in _CLASSES for path in _shown(split / name)]
        others += [path for path in files if not _FILE.fullmatch(path.name)]
        others += [] if split.is_dir() else [split]
    if others:
        raise OutputError(
            f"{folder}: holds something else than these digits, such as {min(others)}; name a new"
            " folder as FOLDER"
        )


def _shown(folder: Path) -> list[Path]:
    """What lies in `folder`, without what systems hide there."""
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if not path.name.startswith(".")]


def _write_jpeg(path: Path, picture: "np.ndarray") -> None:
    """Enlarge an 8x8 picture with values 0..16 and write it, complete or not at all."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    gray = Image.fromarray((picture * (255 / 16)).astype("uint8"))
    large = gray.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB")
    part = part_path(path)
    large.save(part, format="JPEG", quality=95)
    finish_part(part)


if __name__ == "__main__":
    raise SystemExit(main())
