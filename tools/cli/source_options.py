"""The options of the tools that say what is read."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DataError
from pipeline.prepare.layouts.find import SPLITS, Layout, find_layout, find_remote_layout
from pipeline.storage.remote import RemoteFolder, is_url

_SUFFIXES = (".tar.gz", ".beton")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument(
        "source",
        type=folder_or_url,
        help="folder that holds train/ and val/, or ImageNet as Kaggle or image-net.org have it, or"
        " CIFAR's archive, or train.csv and val.csv, or shards or .beton files; or the URL (s3://,"
        " gs://, https://) of a folder that holds train/ and val/",
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
        help="names of the classes, a line each, for lists and .beton files with numbers only",
    )


def open_layout(arguments: argparse.Namespace, splits: Sequence[str]) -> Layout:
    """Return what lies in `arguments.source`, which has all of `splits`.

    Raises:
        DataError: if nothing known does, or a split is missing.
    """
    lists = dict(arguments.list or ())
    classes = _read_classes(arguments.classes) if arguments.classes else None
    source: Path | RemoteFolder = arguments.source
    if isinstance(source, Path):
        layout = find_layout(source, lists=lists, classes=classes)
    elif lists or classes:
        raise DataError("--list and --classes have no effect on a source that is a URL")
    else:
        layout = find_remote_layout(source)
    for split in splits:
        layout.check(split)
    return layout


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
