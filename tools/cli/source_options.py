"""The options of the tools that say what is read."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import DataError
from pipeline.prepare.layouts.find import (
    SPLITS,
    Layout,
    class_folder_layout,
    find_layout,
    find_remote_layout,
)
from pipeline.prepare.layouts.splits import drop_empty_classes, hold_out
from pipeline.storage.remote import RemoteFolder, is_url

_SUFFIXES = (".tar.gz", ".beton")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument(
        "source",
        type=folder_or_url,
        help="folder that holds train/ and val/, or ImageNet as Kaggle or image-net.org have it, or"
        " CIFAR's archive, or train.csv and val.csv, or Hugging Face's Parquet files, or shards or"
        " .beton files; or the URL (s3://, gs://, https://) of a folder with train/ and val/",
    )
    add_reading_options(parser)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to read the source, for a parser that knows what it is."""
    parser.add_argument(
        "--list",
        action="append",
        type=_split_and_file,
        metavar="SPLIT=FILE",
        help="the images of a split are those in this CSV of path,label; paths from SOURCE on",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of classes, a line each, for data that has only numbers, or for other names",
    )
    validation = parser.add_mutually_exclusive_group()
    validation.add_argument(
        "--val-folder",
        metavar="NAME",
        help="the folder beside train/ that holds the validation images, such as test",
    )
    validation.add_argument(
        "--val-fraction",
        type=_share,
        metavar="F",
        help="hold this share of the training images out as val; whether an image is among them"
        " depends on its key and --val-seed alone",
    )
    parser.add_argument("--val-seed", type=int, metavar="N", help="default: 0")
    parser.add_argument(
        "--drop-empty-classes",
        action="store_true",
        help="leave out the classes without a training image, and number the others anew",
    )


def open_layout(arguments: argparse.Namespace, splits: Sequence[str]) -> Layout:
    """Return what lies in `arguments.source`, which has all of `splits`.

    Raises:
        DataError: if nothing known does, or a split is missing.
    """
    lists = dict(arguments.list or ())
    classes = _read_classes(arguments.classes) if arguments.classes else None
    source: Path | RemoteFolder = arguments.source
    if arguments.val_seed is not None and arguments.val_fraction is None:
        raise DataError("--val-seed has no effect without --val-fraction")
    if arguments.val_folder:
        layout = _with_val_folder(source, arguments.val_folder)
    elif isinstance(source, Path):
        layout = find_layout(source, lists=lists, classes=classes)
    elif lists or classes:
        raise DataError("--list and --classes have no effect on a source that is a URL")
    else:
        layout = find_remote_layout(source)
    layout = _shaped(layout, arguments)
    for split in splits:
        layout.check(split)
    return layout


def _with_val_folder(source: Path | RemoteFolder, name: str) -> Layout:
    folder = None if isinstance(source, RemoteFolder) else source / name
    if folder is None or not folder.is_dir():
        raise DataError(f"--val-folder {name}: there is no such local folder in {source}")
    if folder.resolve() == (folder.parent / "train").resolve():
        raise DataError(
            f"--val-folder {name}: is the folder of the training images; name another, or hold some"
            " of them out with --val-fraction 0.05"
        )
    layout = class_folder_layout(folder.parent, {"train": "train", "val": name})
    assert layout is not None, "the folder is there"
    return layout


def _shaped(layout: Layout, arguments: argparse.Namespace) -> Layout:
    """Make the splits that were asked for of those that are there."""
    splits = dict(layout.splits)
    if arguments.val_fraction is not None:
        if "val" in splits or "train" not in splits:
            raise DataError(
                f"--val-fraction holds images out of train where there is no val;"
                f" {layout.name} has {' and '.join(splits)}"
            )
        splits = hold_out(
            splits["train"], fraction=arguments.val_fraction, seed=arguments.val_seed or 0
        )
    if arguments.drop_empty_classes:
        splits = drop_empty_classes(splits)
    return replace(layout, splits=splits)


def folder_or_url(text: str) -> Path | RemoteFolder:
    """Return what an argument names."""
    try:
        return RemoteFolder(text) if is_url(text) else Path(text)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def default_name(source: Path | RemoteFolder) -> str:
    """Return how the output is called if nothing else is said."""
    name = source.resolve().name if isinstance(source, Path) else source.url.rpartition("/")[2]
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return share


def _split_and_file(text: str) -> tuple[str, Path]:
    split, _, file = text.partition("=")
    if split not in SPLITS or not file:
        raise argparse.ArgumentTypeError(f"expected train=FILE or val=FILE, got {text!r}")
    return split, Path(file)


def _read_classes(path: Path) -> tuple[str, ...]:
    try:
        # Not splitlines: names may have line ends of Unicode in them.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        names = tuple(line.strip() for line in lines)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not names or "" in names or len(set(names)) < len(names):
        raise DataError(f"{path}: expected the name of a class on each line, no two alike")
    return names
