"""What to say of a source that is no known layout: what it seems to be, and what to name instead.

Most often it is one step away from what is meant: a split in place of the folder above, one file of
many, a folder of several data sets.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.formats.shard_folder import state_of_folder
from pipeline.images.names import is_image_name
from pipeline.prepare.layouts.cifar import KINDS
from pipeline.prepare.layouts.imagenet_tars import TRAIN_TAR, VAL_TAR
from pipeline.prepare.layouts.kaggle import SOLUTION
from pipeline.words import counted

_SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
_PART_FOLDERS = (*_SPLIT_FOLDERS, "data")
"""Where the files of a data set lie below its own folder."""
_LISTED = 6
_COMMAND = "tools/make_shards.py"
_WHAT_IS_KNOWN = (
    "Known are: train/ and val/ with a folder for each class; Kaggle's ILSVRC/Data/CLS-LOC with"
    f" {SOLUTION}; {TRAIN_TAR} and {VAL_TAR}; {' or '.join(KINDS)}; train.csv and val.csv that"
    " begin with the line path,label; WebDataset shards, Hugging Face's train-*.parquet and"
    " validation-*.parquet, or .beton files of train and val"
)


def described(source: Path) -> str:
    """What lies at `source`, and the right command where it can be guessed."""
    return _file(source) if source.is_file() else _folder(source)


def data_sets_in(folder: Path) -> list[str]:
    """Names of the folders in `folder` that hold train/ or val/, sorted."""
    return sorted(
        path.name
        for path in _folders(folder)
        if any((path / split).is_dir() for split in _SPLIT_FOLDERS[:2])
    )


def _file(source: Path) -> str:
    folder = source.resolve().parent
    above = folder.parent if folder.name in _PART_FOLDERS else folder
    if source.suffix == ".parquet":
        return f"one Parquet file; name the folder of all: {_COMMAND} {above}"
    if source.suffix == ".tar":
        return f"one archive; name the folder of all: {_COMMAND} {above}"
    if source.suffix == ".csv":
        return (
            "one list; name the folder that its paths start from, and the list as an option:"
            f" {_COMMAND} {folder} --list train={source}"
        )
    if is_image_name(source.name):
        return "one image; name the folder that holds train/ and val/"
    return f"a file of no known kind. {_WHAT_IS_KNOWN}"


def _folder(source: Path) -> str:
    here = source.resolve()
    names = sorted(path.name for path in here.iterdir())
    if here.name in _SPLIT_FOLDERS and (_holds_images(here) or state_of_folder(here).has_index):
        return (
            f"one split of a data set; name the folder above: {_COMMAND} {here.parent}"
            f" --split {'train' if here.name == 'train' else 'val'}"
        )
    if inside := data_sets_in(here):
        return (
            f"it holds {counted(len(inside), 'data set')} ({_some(inside)}); name one:"
            f" {_COMMAND} {source / inside[0]}"
        )
    if _holds_images(here):
        return (
            f"it holds folders of images ({_some(names)}), and no train/; if these are the classes,"
            f" move them into {source / 'train'}, and add --val-fraction 0.05"
        )
    return f"it holds {_some(names) or 'nothing'}. {_WHAT_IS_KNOWN}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"


def _holds_images(folder: Path) -> bool:
    """Whether there is a folder of images in `folder`, or Parquet files or archives."""
    files = (path for path in folder.iterdir() if path.suffix in (".parquet", ".tar"))
    return any(files) or any(
        is_image_name(path.name) for inner in _folders(folder) for path in inner.iterdir()
    )


def _folders(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
