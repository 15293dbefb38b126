"""ImageNet as image-net.org has it: archives that need not be unpacked.

    ILSVRC2012_img_train.tar        of WNID.tar, of WNID_*.JPEG
    ILSVRC2012_img_val.tar          of ILSVRC2012_val_*.JPEG, without labels

Keys are those of class folders, WNID/NAME, so it becomes the same shards as the sorted folder.
The labels of the validation images come in one of four forms, whichever lies beside the archives.
"""

import io
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError
from pipeline.formats.scan import Scan
from pipeline.images.names import is_image_name, sample_key
from pipeline.prepare.layouts.scan_builder import ScanBuilder
from pipeline.storage.tar_reader import Member, TarReader, location_of, members

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"

_CLASS_TAR = re.compile(r"(\w[\w-]*)\.tar")
_NUMBER = re.compile(r"_(\d{8})\.")


_DEVKIT = "ILSVRC2012_devkit_t12"
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_SYNSETS = "imagenet_2012_validation_synset_labels.txt"
_CAFFE = "val.txt"
_MAX_BYTES = 64 << 20
"""The devkit's files are smaller than 2 MB."""
_Labels = tuple[tuple[str, ...], list[str]]


def scan_train_tar(folder: Path) -> Scan:
    """List the images in the archive of archives.

    Raises:
        DataError: if it is cut off, or no archives of classes are in it.
    """
    path, builder = folder / TRAIN_TAR, ScanBuilder()
    stamp = path.stat().st_mtime_ns
    tars = _class_tars(path, builder)
    classes = tuple(sorted(tars))
    for label, name in enumerate(classes):
        for member in members(path, within=tars[name]):
            if is_image_name(member.name):
                key = sample_key(f"{name}/{member.name}")
                place = location_of(member)
                builder.add(key, place, label=label, size=member.size, stamp=stamp)
            else:
                builder.ignored[Path(member.name).suffix.lower() or "no extension"] += 1
    return builder.scan(classes, TarReader(str(path)))


def scan_val_tar(folder: Path) -> Scan:
    """List the validation images with their labels.

    Raises:
        DataError: if the archive is cut off, or nothing says what the labels are.
    """
    path, builder = folder / VAL_TAR, ScanBuilder()
    stamp = path.stat().st_mtime_ns
    classes, ids = validation_ids(folder, _train_classes(folder))
    by_name = {name: label for label, name in enumerate(classes)}
    for member in members(path):
        number = _NUMBER.search(member.name)
        if not (is_image_name(member.name) and number):
            builder.ignored[Path(member.name).suffix.lower() or "no extension"] += 1
        elif not 1 <= int(number[1]) <= len(ids):
            detail = f"image {int(number[1])}, and there are labels of {len(ids)}"
            builder.report("no label", member.name, detail)
        elif (wordnet_id := ids[int(number[1]) - 1]) not in by_name:
            builder.report("unknown class", member.name, wordnet_id)
        else:
            builder.add(
                sample_key(f"{wordnet_id}/{member.name}"),
                location_of(member),
                label=by_name[wordnet_id],
                size=member.size,
                stamp=stamp,
            )
    return builder.scan(classes, TarReader(str(path)))


def _class_tars(path: Path, builder: ScanBuilder) -> dict[str, Member]:
    """Return the archive of each class."""
    tars: dict[str, Member] = {}
    for member in members(path):
        if (match := _CLASS_TAR.fullmatch(member.name)) is None:
            builder.ignored[member.name] += 1
        elif match[1] in tars:
            builder.report("same class", member.name, "an archive of this name came before")
        else:
            tars[match[1]] = member
    if not tars:
        raise DataError(f"{path}: no archives such as n01440764.tar, one for each class, in it")
    return tars


def _train_classes(folder: Path) -> tuple[str, ...] | None:
    path = folder / TRAIN_TAR
    return tuple(sorted(_class_tars(path, ScanBuilder()))) if path.exists() else None


def validation_ids(folder: Path, classes: Sequence[str] | None) -> _Labels:
    """Return the classes, sorted, and the WordNet id of each validation image.

    Args:
        folder: where one of the forms lies.
        classes: of the training images, sorted, if these are there; they decide.

    Raises:
        DataError: if none of the forms is there, or one is damaged.
    """
    forms: dict[str, Callable[[Path, Sequence[str] | None], _Labels]] = {
        f"{_DEVKIT}.tar.gz": _from_archive,
        _DEVKIT: _from_folder,
        _SYNSETS: _from_synsets,
        _CAFFE: _from_caffe,
    }
    for name, read in forms.items():
        if (folder / name).exists():
            found, ids = read(folder / name, classes)
            return tuple(classes or found), ids
    raise DataError(
        f"{folder}: the labels of the validation images are missing; put {_DEVKIT}.tar.gz (from"
        f" image-net.org), {_SYNSETS} or Caffe's {_CAFFE} beside the archive"
    )


def _from_archive(path: Path, classes: Sequence[str] | None) -> _Labels:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for info in archive:
                name = PurePosixPath(info.name).name
                if name in (_TRUTH, _META) and info.isreg() and info.size <= _MAX_BYTES:
                    content = archive.extractfile(info)
                    assert content is not None, "it is a regular file"
                    files[name] = content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable archive: {error}") from error
    return _official(path, files)


def _from_folder(path: Path, classes: Sequence[str] | None) -> _Labels:
    found = {name: path / "data" / name for name in (_TRUTH, _META)}
    return _official(path, {name: f.read_bytes() for name, f in found.items() if f.exists()})


def _official(path: Path, files: dict[str, bytes]) -> _Labels:
    for name in (_TRUTH, _META):
        if name not in files:
            raise DataError(f"{path}: {name} is missing in it; download it again")
    by_number = _wordnet_ids(path, files[_META])
    lines = files[_TRUTH].decode(errors="replace").split()
    try:
        ids = [by_number[int(line)] for line in lines]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: {_TRUTH} names a class that {_META} has not: {error}") from error
    return tuple(sorted(by_number.values())), ids


def _wordnet_ids(path: Path, meta: bytes) -> dict[int, str]:
    """Return the WordNet ids of the classes by the devkit's number."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(
            f"{path}: reading {_META} needs SciPy: 'pip install scipy'; or put {_SYNSETS} beside"
            " the archive instead"
        ) from error
    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        # Inner nodes of the tree follow after the classes, which have no children.
        leaves = [row for row in synsets if int(row["num_children"]) == 0]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
    except Exception as error:  # scipy raises anything on damaged files
        raise DataError(f"{path}: {_META} cannot be read: {error!r}") from error


def _from_synsets(path: Path, classes: Sequence[str] | None) -> _Labels:
    ids = path.read_text(encoding="utf-8", errors="replace").split()
    return tuple(sorted(set(ids))), ids


def _from_caffe(path: Path, classes: Sequence[str] | None) -> _Labels:
    if classes is None:
        raise DataError(
            f"{path}: its labels count the WordNet ids, which are known from the training archive"
            " only; put that beside it"
        )
    pairs = sorted(
        line.rsplit(maxsplit=1)
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    )
    try:
        return tuple(classes), [classes[int(label)] for _, label in pairs]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: expected lines such as NAME.JPEG 65: {error}") from error
