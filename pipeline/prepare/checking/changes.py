"""Which images of a source are not what they were, as far as index and manifest tell."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from pipeline.formats.index import Index, read_index
from pipeline.formats.scan import Scan
from pipeline.prepare.checking.check_index import check_index
from pipeline.prepare.conversion.manifest import Manifest, printable
from pipeline.prepare.writers.shard_record import ShardRecord

_NAMED = 5


def trusted_index(folder: Path, manifest: Manifest) -> Index | None:
    """Return the index of `folder` if it is the manifest's, else None."""
    return None if check_index(folder, manifest) else read_index(folder)


def changes_of_source(scan: Scan, index: Index, manifest: Manifest) -> Iterator[str]:
    """Name the images of a scan that are new, missing, of another class or of another size.

    Args:
        scan: of the source as it is now.
        index: of what was made from it.
        manifest: of the same.
    """
    names = ("key", "label", "length")
    columns = [index.table.column(name).to_pylist() for name in names]
    stored = {key: (label, size) for key, label, size in zip(*columns, strict=True)}
    left_out = {item["where"] for item in manifest["left_out"]}
    # Else they are estimates, or those of images that were made anew.
    has_sizes = scan.has_exact_sizes and not manifest["options"].get("codec")
    labels, sizes = scan.labels.tolist(), scan.sizes.tolist()
    for entry, key in enumerate(scan.keys.to_pylist()):
        if (known := stored.pop(key, None)) is None:
            if printable(scan.location(entry)) not in left_out:
                yield f"{key}: new"
        elif scan.classes[labels[entry]] != index.classes[known[0]]:
            yield f"{key}: of the class {scan.classes[labels[entry]]}"
        elif has_sizes and sizes[entry] != known[1]:
            yield f"{key}: {sizes[entry]} bytes instead of {known[1]}"
    yield from (f"{key}: missing" for key in stored)


def changes_of_shard(
    record: ShardRecord, number: int, index: Index, manifest: Manifest
) -> Iterator[str]:
    """Name the images that made shard `number` another one when it was made again, as `record`."""
    left_out = {item["where"] for item in manifest["left_out"]}
    for problem in record.problems:
        if printable(problem.where) not in left_out:
            yield printable(str(problem))
    names = ("key", "crc32", "length", "shard")
    columns = [index.table.column(name).to_pylist() for name in names]
    stored = {key: rest for key, *rest, shard in zip(*columns, strict=True) if shard == number}
    columns = [record.table.column(name).to_pylist() for name in names[:3]]
    for key, *made in zip(*columns, strict=True):
        if key not in stored:
            yield f"{key}: was left out"
        elif made != stored[key]:
            yield f"{key}: other bytes"


def in_words(changes: Iterable[str]) -> str:
    """Return the first of `changes`, and how many more there are; empty if there is none."""
    rest = iter(changes)
    named = ", ".join(islice(rest, _NAMED))
    more = sum(1 for _ in rest)
    return f"{named} and {more:,} more" if more else named
