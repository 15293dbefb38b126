"""WebDataset shards that others made, such as timm's imagenet-1k-wds: an image and its `cls`.

    imagenet1k-train-0000.tar, imagenet1k-validation-00.tar, ...    beside each other,
    train/*.tar, val/*.tar                                          or in folders;
    _info.json                                                      timm's, names all of a split

Members are read at their offsets. With `--classes` a key is CLASS/NAME, as in class folders, so
these shards become the same as the folders that they were made from.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import DataError
from pipeline.formats.scan import Scan
from pipeline.formats.source import MAX_CLASSES
from pipeline.images.names import is_image_name, sample_key
from pipeline.prepare.layouts.scan_builder import ScanBuilder
from pipeline.storage.tar_reader import Member, TarReader, location_of, members

INFO_NAMES = ("_info.json", "info.json")
_SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation")}


@dataclass(frozen=True)
class ShardsReader:
    """Reads members of the archives below `root`; a location is `SHARD:offset:size:name`."""

    root: str

    def read(self, location: str) -> bytes:
        """Return the bytes of the member."""
        shard, place = self._parts(location)
        return TarReader(shard).read(place)

    def describe(self, location: str) -> str:
        """Return archive, name and offset."""
        shard, place = self._parts(location)
        return TarReader(shard).describe(place)

    def _parts(self, location: str) -> tuple[str, str]:
        shard, _, place = location.partition(".tar:")
        return f"{self.root}/{shard}.tar", place


class _Sample(NamedTuple):
    shard: Path
    name: str
    image: Member | None
    label: bytes | None


def find_shards(source: Path, split: str) -> list[Path]:
    """The archives of `split` in `source`, or in a folder of its name, sorted."""
    words = "|".join(_SPLIT_NAMES[split])
    named = re.compile(rf"(?:.*[-_])?(?:{words})[-_\d].*\.tar")
    found = [path for path in sorted(source.glob("*.tar")) if named.fullmatch(path.name)]
    for name in () if found else _SPLIT_NAMES[split]:
        found += sorted((source / name).glob("*.tar"))
    return found


def scan_webdataset(
    source: Path, split: str, training: Sequence[Path], classes: Sequence[str] | None
) -> Scan:
    """List the samples of a split.

    Args:
        source: the folder.
        split: train or val.
        training: the archives that say how many classes there are, if `classes` does not.
        classes: their names; the position is the number in `cls`.

    Raises:
        DataError: if an archive is damaged or missing, or has no samples of this kind.
    """
    shards, builder = find_shards(source, split), ScanBuilder()
    names = tuple(classes) if classes else _numbered(training)
    counts = _announced(source, shards)
    for shard in shards:
        stamp, found = shard.stat().st_mtime_ns, 0
        for sample in _samples(shard, builder):
            found += 1
            _add(builder, sample, names, str(shard.relative_to(source)), stamp)
        if shard.name in counts and counts[shard.name] != found:
            raise DataError(
                f"{shard}: has {found} samples, and {counts[shard.name]} according to the"
                " description beside it; download it again"
            )
    return builder.scan(names, ShardsReader(str(source)))


def _numbered(training: Sequence[Path]) -> tuple[str, ...]:
    """Names of classes that have numbers only; sorted, they are in the order of these."""
    top = -1
    for shard in training:
        for sample in _samples(shard, ScanBuilder()):
            label = _number(sample.label)
            top = max(top, -1 if label is None else label)
    if not 0 <= top < MAX_CLASSES:
        raise DataError(
            f"{training[0]}: no samples of an image and its class number (members NAME.jpg and"
            " NAME.cls) in the shards of this split"
        )
    return tuple(f"{number:0{len(str(top))}}" for number in range(top + 1))


def _announced(source: Path, shards: Sequence[Path]) -> dict[str, int]:
    """Samples of each archive, where timm's description lies beside them.

    Raises:
        DataError: if it cannot be read, or names an archive that is not there.
    """
    there = {shard.name for shard in shards}
    for path in (folder / name for folder in (source, shards[0].parent) for name in INFO_NAMES):
        if not path.exists():
            continue
        try:
            splits = json.loads(path.read_text(encoding="utf-8"))["splits"].values()
            counts = [dict(zip(s["filenames"], s["shard_lengths"], strict=True)) for s in splits]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not a description of shards: {error!r}") from error
        mine = next((count for count in counts if there & count.keys()), {})
        if missing := sorted(mine.keys() - there):
            raise DataError(
                f"{path}: names {len(mine)} shards, and {len(missing)} are missing, such as"
                f" {missing[0]}; download them, too"
            )
        return mine
    return {}


def _samples(shard: Path, builder: ScanBuilder) -> Iterator[_Sample]:
    """Members that follow each other and have a name in common, up to the first dot."""
    reader, current = TarReader(str(shard)), _Sample(shard, "", None, None)
    for member in members(shard):
        name, _, kind = member.name.partition(".")
        if name != current.name:
            if current.image or current.label is not None:
                yield current
            current = _Sample(shard, name, None, None)
        if kind == "cls":
            current = current._replace(label=reader.read(location_of(member)))
        elif is_image_name(f"a.{kind}") and "." not in kind:
            current = current._replace(image=member)
        else:
            builder.ignored[f".{kind}"] += 1
    if current.image or current.label is not None:
        yield current


def _number(label: bytes | None) -> int | None:
    text = (label or b"").strip()
    return int(text) if text.isdigit() and len(text) < 10 else None


def _add(
    builder: ScanBuilder, sample: _Sample, classes: tuple[str, ...], shard: str, stamp: int
) -> None:
    where, label = f"{shard}: {sample.name}", _number(sample.label)
    if sample.image is None:
        builder.report("no image", where, "a label without an image")
    elif sample.label is None:
        builder.report("no label", where, "there is no .cls beside it")
    elif label is None:
        builder.report("no label", where, f".cls holds {sample.label[:20]!r}, not a class number")
    elif label >= len(classes):
        builder.report("unknown class", where, f"class {label}, and there are {len(classes)}")
    else:
        name = sample.image.name
        if sample.name.isdigit():  # a serial number, which often begins anew in each shard
            name = f"{sample.shard.stem}-{name}"
        builder.add(
            sample_key(f"{classes[label]}/{name}"),
            f"{shard}:{location_of(sample.image)}",
            label=label,
            size=sample.image.size,
            stamp=stamp,
        )
