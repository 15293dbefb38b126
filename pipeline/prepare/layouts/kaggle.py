"""ImageNet as Kaggle has it (imagenet-object-localization-challenge), unpacked.

    ILSVRC/Data/CLS-LOC/train/WNID/*.JPEG
    ILSVRC/Data/CLS-LOC/val/*.JPEG
    LOC_val_solution.csv            ImageId,PredictionString: the first word is the WordNet id
    LOC_synset_mapping.txt          a line for each class: WordNet id, names

Keys are those of class folders, WNID/NAME, so it becomes the same shards as the sorted folder.
"""

import csv
import os
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.class_folders import FileReader, class_names, scan_class_folders
from pipeline.formats.scan import Scan
from pipeline.images.names import is_image_name, sample_key
from pipeline.prepare.layouts.scan_builder import ScanBuilder

IMAGES = Path("ILSVRC", "Data", "CLS-LOC")
SOLUTION = "LOC_val_solution.csv"
_MAPPING = "LOC_synset_mapping.txt"


def kaggle_classes(root: Path) -> tuple[str, ...]:
    """Return the WordNet ids of the classes, sorted."""
    mapping = root / _MAPPING
    if not mapping.exists():
        return class_names(root / IMAGES / "train")
    lines = mapping.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(sorted(line.split(maxsplit=1)[0] for line in lines if line.strip()))


def scan_kaggle_train(root: Path) -> Scan:
    """List the training images."""
    return scan_class_folders(root / IMAGES / "train", kaggle_classes(root))


def scan_kaggle_val(root: Path) -> Scan:
    """List the validation images, with the classes that the solution file gives them.

    Raises:
        DataError: if that file is missing or of another form.
    """
    classes, folder, builder = kaggle_classes(root), root / IMAGES / "val", ScanBuilder()
    by_name = {name: label for label, name in enumerate(classes)}
    wordnet_ids = _read_solution(root / SOLUTION)
    with os.scandir(folder) as entries:
        for entry in entries:
            image = os.path.splitext(entry.name)[0]  # noqa: PTH122 (of 50,000 names)
            if not (is_image_name(entry.name) and _is_file(entry)):
                builder.ignored[entry.name] += 1
            elif (wordnet_id := wordnet_ids.pop(image, None)) is None:
                builder.report("no label", entry.name, f"{SOLUTION} has no line for it")
            elif wordnet_id not in by_name:
                builder.report("unknown class", entry.name, f"{wordnet_id} is not in {_MAPPING}")
            else:
                status = entry.stat()
                builder.add(
                    sample_key(f"{wordnet_id}/{entry.name}"),
                    entry.name,
                    label=by_name[wordnet_id],
                    size=status.st_size,
                    stamp=status.st_mtime_ns,
                )
    for image in wordnet_ids:
        builder.report("missing file", image, f"{SOLUTION} has a line for it")
    return builder.scan(classes, FileReader(str(folder)))


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle
        return False


def _read_solution(path: Path) -> dict[str, str]:
    """Return the WordNet id of each image."""
    if not path.exists():
        raise DataError(
            f"{path}: missing; the labels of the validation images are in it, and it belongs"
            " beside the folder ILSVRC"
        )
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0] != ["ImageId", "PredictionString"]:
        raise DataError(f"{path}: expected the columns ImageId,PredictionString")
    if bad := [i for i, row in enumerate(rows, 1) if len(row) != 2 or not row[1].split()]:
        raise DataError(f"{path}: line {bad[0]} is not of the form ImageId,WNID x y x y")
    return {image: prediction.split()[0] for image, prediction in rows[1:]}
