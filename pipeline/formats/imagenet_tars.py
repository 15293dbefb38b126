"""ImageNet as image-net.org has it: archives that need not be unpacked.

    ILSVRC2012_img_train.tar        of WNID.tar, of WNID_*.JPEG
    ILSVRC2012_img_val.tar          of ILSVRC2012_val_*.JPEG, without labels

Keys are those of class folders, WNID/NAME, so it becomes the same shards as the sorted folder.
The labels of the validation images: see `imagenet_labels`.
"""

import re
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.imagenet_labels import validation_ids
from pipeline.formats.listing import Listing
from pipeline.formats.scan import Scan
from pipeline.images.names import is_image_name, sample_key
from pipeline.storage.tar_reader import Member, TarReader, location_of, members

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"

_CLASS_TAR = re.compile(r"(\w[\w-]*)\.tar")
_NUMBER = re.compile(r"_(\d{8})\.")


def scan_train_tar(folder: Path) -> Scan:
    """List the images in the archive of archives.

    Raises:
        DataError: if it is cut off, or no archives of classes are in it.
    """
    path, listing = folder / TRAIN_TAR, Listing()
    stamp = path.stat().st_mtime_ns
    tars = _class_tars(path, listing)
    classes = tuple(sorted(tars))
    for label, name in enumerate(classes):
        for member in members(path, within=tars[name]):
            if is_image_name(member.name):
                key = sample_key(f"{name}/{member.name}")
                place = location_of(member)
                listing.add(key, place, label=label, size=member.size, stamp=stamp)
            else:
                listing.ignored[Path(member.name).suffix.lower() or "no extension"] += 1
    return listing.scan(classes, TarReader(str(path)))


def scan_val_tar(folder: Path) -> Scan:
    """List the validation images with their labels.

    Raises:
        DataError: if the archive is cut off, or nothing says what the labels are.
    """
    path, listing = folder / VAL_TAR, Listing()
    stamp = path.stat().st_mtime_ns
    classes, ids = validation_ids(folder, _train_classes(folder))
    by_name = {name: label for label, name in enumerate(classes)}
    for member in members(path):
        number = _NUMBER.search(member.name)
        if not (is_image_name(member.name) and number):
            listing.ignored[Path(member.name).suffix.lower() or "no extension"] += 1
        elif not 1 <= int(number[1]) <= len(ids):
            detail = f"image {int(number[1])}, and there are labels of {len(ids)}"
            listing.report("no label", member.name, detail)
        elif (wordnet_id := ids[int(number[1]) - 1]) not in by_name:
            listing.report("unknown class", member.name, wordnet_id)
        else:
            listing.add(
                sample_key(f"{wordnet_id}/{member.name}"),
                location_of(member),
                label=by_name[wordnet_id],
                size=member.size,
                stamp=stamp,
            )
    return listing.scan(classes, TarReader(str(path)))


def _class_tars(path: Path, listing: Listing) -> dict[str, Member]:
    """Return the archive of each class."""
    tars: dict[str, Member] = {}
    for member in members(path):
        if (match := _CLASS_TAR.fullmatch(member.name)) is None:
            listing.ignored[member.name] += 1
        elif match[1] in tars:
            listing.report("same class", member.name, "an archive of this name came before")
        else:
            tars[match[1]] = member
    if not tars:
        raise DataError(f"{path}: no archives such as n01440764.tar, one for each class, in it")
    return tars


def _train_classes(folder: Path) -> tuple[str, ...] | None:
    path = folder / TRAIN_TAR
    return tuple(sorted(_class_tars(path, Listing()))) if path.exists() else None
