"""The labels of ImageNet's validation images, which lie beside the archive in one of these forms.

- ILSVRC2012_devkit_t12.tar.gz, or its folder unpacked: the official one. It counts classes in an
  order of its own; meta.mat says which WordNet id has which number.
- imagenet_2012_validation_synset_labels.txt: a line for each image, its WordNet id (TensorFlow's).
- val.txt: lines `NAME LABEL`, labels from 0 in the order of the WordNet ids (Caffe's).
"""

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError

_DEVKIT = "ILSVRC2012_devkit_t12"
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_SYNSETS = "imagenet_2012_validation_synset_labels.txt"
_CAFFE = "val.txt"
_MAX_BYTES = 64 << 20
"""The devkit's files are smaller than 2 MB."""

_Labels = tuple[tuple[str, ...], list[str]]


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
