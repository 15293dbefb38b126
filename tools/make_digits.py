# PYTHON_ARGCOMPLETE_OK
"""Write scikit-learn's 1,797 handwritten digits as an ImageNet-style folder of JPEGs.

    python tools/make_digits.py data/digits

The 8x8 pictures become 32x32 JPEGs under train/CLASS and val/CLASS: 1,437 to train on and 360 to
evaluate on, split once and for all. A folder that is already there and complete is left alone.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import command_line
from pipeline.errors import DataError
from tools.cli import exits

if TYPE_CHECKING:  # it takes a moment to import
    import numpy as np

NUM_VALIDATION = 360
SIZE = 32
SPLIT_SEED = 0


def main(argv: list[str] | None = None) -> int:
    """Write the folder; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    parser.add_argument("folder", type=Path, help="gets train/ and val/")
    return exits.told(partial(_work, command_line.parse(parser, argv)))


def _work(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
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


def _write_jpeg(path: Path, picture: "np.ndarray") -> None:
    """Enlarge an 8x8 picture with values 0..16 and write it, complete or not at all."""
    from PIL import Image

    from pipeline.storage.files import finish_part, part_path

    path.parent.mkdir(parents=True, exist_ok=True)
    gray = Image.fromarray((picture * (255 / 16)).astype("uint8"))
    large = gray.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB")
    part = part_path(path)
    large.save(part, format="JPEG", quality=95)
    finish_part(part)


if __name__ == "__main__":
    raise SystemExit(main())
