"""What lies in a source folder: which layout, which splits, and how each is listed.

A layout is known by files and folders with the names that its authors gave them; no image is read
to find out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.class_folders import class_names, scan_class_folders
from pipeline.formats.scan import Scan
from pipeline.formats.shard_folder import MANIFEST_NAME, state_of_folder
from pipeline.prepare.layouts.cifar import KINDS, scan_cifar
from pipeline.prepare.layouts.converted import scan_ffcv, scan_remote_shards, scan_shards
from pipeline.prepare.layouts.csv_list import is_list, list_classes, scan_list
from pipeline.prepare.layouts.imagenet_tars import TRAIN_TAR, VAL_TAR, scan_train_tar, scan_val_tar
from pipeline.prepare.layouts.kaggle import IMAGES, scan_kaggle_train, scan_kaggle_val
from pipeline.prepare.layouts.parquet import find_parquet, is_unlabelled, scan_parquet
from pipeline.prepare.layouts.remote_folders import scan_remote_folders
from pipeline.prepare.layouts.unknown import described
from pipeline.prepare.layouts.webdataset import find_shards, scan_webdataset
from pipeline.storage.remote import RemoteFolder

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Layout:
    """A data set as it was found.

    Attributes:
        name: of the layout, for messages.
        splits: what lists each one that is there.
        beside: other folders that may be splits under another name.
        folders: in which one a split's problems lie; those of other splits, in the source itself.
    """

    name: str
    splits: Mapping[str, Callable[[], Scan]]
    beside: tuple[str, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)

    def place(self, split: str, where: str) -> str:
        """Where a problem lies, relative to the source; the split comes first if it says nothing.

        Args:
            split: in which it was found; one that is held out of train lies there.
            where: the problem's own location.
        """
        folder = self.folders.get(split, self.folders.get("train"))
        return f"{split}: {where}" if folder is None else f"{folder}/{where}"

    def check(self, split: str) -> None:
        """See that `split` is there.

        Raises:
            DataError: naming what is there instead.
        """
        if split in self.splits:
            return
        remedy = f"--split {next(iter(self.splits))} converts what is there"
        if split == "val":
            # `test` is what most call it.
            named = sorted(self.beside, key=lambda name: (name != "test", name))[:1]
            remedy = "".join(f"--val-folder {name} takes {name}/ as val; " for name in named)
            remedy += "--val-fraction 0.05 holds out some of train; --split train converts it alone"
        raise DataError(
            f"{self.name}: has no split {split} (there is"
            f" {' and '.join([*self.splits, *self.beside])}); {remedy}"
        )


def find_layout(
    source: Path,
    *,
    lists: Mapping[str, Path] | None = None,
    classes: Sequence[str] | None = None,
) -> Layout:
    """Find out what lies at `source`.

    Args:
        source: a folder, or one file: an archive of CIFAR's or a `.beton`.
        lists: CSV files of path,label for splits, instead of what lies there.
        classes: names of the classes, for data that has only their numbers.

    Raises:
        DataError: if nothing there is known, saying what would be.
    """
    if not source.exists():
        raise DataError(f"{source}: no such folder; expected one that holds train/ and val/")
    if lists:
        return _lists(source, lists, classes)
    finders = (
        _cifar,
        _kaggle,
        _official,
        _listed,
        _converted,
        _webdataset,
        _parquet,
        _class_folders,
    )
    for find in finders:
        if layout := find(source, classes):
            return layout
    raise DataError(f"{source}: {described(source)}")


def _cifar(source: Path, classes: Sequence[str] | None) -> Layout | None:
    found = (
        [source] if source.name in KINDS else [source / n for n in KINDS if (source / n).exists()]
    )
    if len(found) > 1:
        raise DataError(f"{source}: holds {' and '.join(KINDS)}; name the one to be converted")
    if not found:
        return None
    return Layout(str(found[0]), {split: partial(scan_cifar, found[0], split) for split in SPLITS})


def _kaggle(source: Path, classes: Sequence[str] | None) -> Layout | None:
    """Kaggle's folder, also if the source is ILSVRC, Data or CLS-LOC in it."""
    here = source.resolve()
    above = [
        p for p in here.parents[: len(IMAGES.parts)] if here.is_relative_to(p / IMAGES.parts[0])
    ]
    scans = {"train": scan_kaggle_train, "val": scan_kaggle_val}
    for root in (source, *above):
        there = {s: partial(f, root) for s, f in scans.items() if (root / IMAGES / s).is_dir()}
        if there:
            return Layout(str(root / IMAGES), there)
    return None


def _official(source: Path, classes: Sequence[str] | None) -> Layout | None:
    scans = {"train": (TRAIN_TAR, scan_train_tar), "val": (VAL_TAR, scan_val_tar)}
    there = {
        split: partial(scan, source)
        for split, (name, scan) in scans.items()
        if (source / name).exists()
    }
    return Layout(f"{source}: {TRAIN_TAR}, {VAL_TAR}", there) if there else None


def _listed(source: Path, classes: Sequence[str] | None) -> Layout | None:
    there = {s: source / f"{s}.csv" for s in SPLITS if is_list(source / f"{s}.csv")}
    return _lists(source, there, classes) if there else None


def _lists(root: Path, lists: Mapping[str, Path], classes: Sequence[str] | None) -> Layout:
    # The training split says which classes there are, as it does for folders.
    first = lists.get("train", next(iter(lists.values())))
    names, numbered = (classes, None) if classes else list_classes(first)
    scan = partial(scan_list, root=root, classes=names, numbered=numbered)
    return Layout(f"{root}, listed", {split: partial(scan, path) for split, path in lists.items()})


def _converted(source: Path, classes: Sequence[str] | None) -> Layout | None:
    given = tuple(classes) if classes else None
    if source.suffix == ".beton":
        split = source.stem if source.stem in SPLITS else "train"
        return Layout(str(source), {split: partial(scan_ffcv, source, given)})
    there: dict[str, Callable[[], Scan]] = {}
    for split in SPLITS:
        if beton := _ffcv_of(source, split):
            there[split] = partial(scan_ffcv, beton, given)
        elif state_of_folder(source / split).has_index:
            there[split] = partial(scan_shards, source / split)
    return Layout(f"{source}, converted", there) if there else None


def _ffcv_of(source: Path, split: str) -> Path | None:
    candidates = (source / split / f"{split}.beton", source / f"{split}.beton")
    return next((path for path in candidates if path.is_file()), None)


def _webdataset(source: Path, classes: Sequence[str] | None) -> Layout | None:
    if any(state_of_folder(source / split).is_unfinished for split in SPLITS):
        return None  # ours, and not yet whole
    shards = {split: find_shards(source, split) for split in SPLITS if find_shards(source, split)}
    if not shards:
        return None
    training = shards.get("train") or next(iter(shards.values()))
    scan = partial(scan_webdataset, source, training=training, classes=classes)
    return Layout(f"{source}, WebDataset shards", {split: partial(scan, split) for split in shards})


def _parquet(source: Path, classes: Sequence[str] | None) -> Layout | None:
    files = {split: find_parquet(source, split) for split in SPLITS if find_parquet(source, split)}
    if not files:
        return None
    name, training = f"{source}, Parquet", files.get("train") or files["val"]
    if "train" in files and "val" in files and is_unlabelled(files["val"][0]):
        name += f" ({files.pop('val')[0].name} has images without classes)"
    scan = partial(scan_parquet, source, training=training, classes=classes)
    return Layout(name, {s: partial(scan, found) for s, found in files.items()})


def _class_folders(source: Path, classes: Sequence[str] | None) -> Layout | None:
    return class_folder_layout(source, {split: split for split in SPLITS})


def class_folder_layout(source: Path, folders: Mapping[str, str]) -> Layout | None:
    """The splits of class folders below `source`; None if there is none.

    Args:
        source: of all.
        folders: the name of each split's folder.
    """
    there = {split: name for split, name in folders.items() if (source / name).is_dir()}
    if not there:
        return None
    first = next(iter(there.values()))

    def scan(name: str) -> Scan:
        return scan_class_folders(source / name, class_names(source / first))

    beside = sorted(p.name for p in source.iterdir() if p.is_dir() and not p.name.startswith("."))
    return Layout(
        f"{source}",
        {split: partial(scan, name) for split, name in there.items()},
        beside=tuple(name for name in beside if name not in there.values()),
        folders=there,
    )


def find_remote_layout(remote: RemoteFolder) -> Layout:
    """Find the splits at a URL.

    Raises:
        DataError: if there are none.
    """
    converted = {
        s: partial(scan_remote_shards, remote / s) for s in SPLITS if _has_shards(remote / s)
    }
    if converted:
        return Layout(remote.url, converted)
    folders = remote.children()[0]
    there = [split for split in SPLITS if split in folders]
    if not there:
        raise DataError(
            f"{remote.url}: holds no train/ or val/ with shards or with a folder for each class (or"
            " its server does not list folders); other layouts are read from local folders only"
        )
    return Layout(
        remote.url,
        {s: partial(scan_remote_folders, remote / s, remote / there[0]) for s in there},
        folders={split: split for split in there},
    )


def _has_shards(remote: RemoteFolder) -> bool:
    try:
        return remote.size(MANIFEST_NAME) > 0
    except FileNotFoundError:
        return False
