"""Any scan written as class folders, CLASS/NAME.EXTENSION: the way back from shards and archives.

Files appear under their names when they are complete, and the whole folder under its name when all
files are in it. So a run that was stopped is gone on with, and what has the name is whole. What an
earlier run left is kept if its bytes are the right ones: after a power cut, a file of the right
length may be full of zeros.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np

from pipeline.errors import DataError, OutputError, Problem, UnusableInputError
from pipeline.formats.scan import Scan
from pipeline.images.header import read_header
from pipeline.images.names import member_extension, sample_key
from pipeline.images.usable import usual_extension
from pipeline.prepare.writers.job import Progress
from pipeline.storage.files import PART_SUFFIX
from pipeline.storage.locks import locked

_THREADS = 4
_BLOCK = 256
_LOCK_NAME = ".lock"
_NAME_BYTES = 255


def write_class_folders(scan: Scan, folder: Path, progress: Progress) -> None:
    """Write the images of `scan` to `folder`, which does not exist yet.

    Raises:
        OutputError: if it exists, or another process is writing it.
        UnusableInputError: naming all images that cannot be read; the others are kept for a rerun.
        DataError: if a class or a key is no name of a folder or a file.
    """
    if folder.exists():
        raise OutputError(f"{folder}: exists already; choose another --output, or remove it")
    if scan.problems:
        raise UnusableInputError(list(scan.problems))
    _check_distinct(file_paths(scan))
    unfinished = folder.with_name(folder.name + PART_SUFFIX)
    unfinished.mkdir(parents=True, exist_ok=True)
    with locked(unfinished / _LOCK_NAME, f"{unfinished}: another process is writing there"):
        for name in scan.classes:
            (unfinished / _safe_name(name)).mkdir(exist_ok=True)
        problems = list(_write_all(scan, unfinished, progress))
        if problems:
            raise UnusableInputError(problems)
        os.sync()
        (unfinished / _LOCK_NAME).unlink()
        unfinished.rename(folder)


def file_paths(scan: Scan) -> Iterator[str]:
    """Yield where each entry's file goes, relative to the folder of the split.

    A key is the path without the extension if it begins with its class, as make_shards names them;
    from such a folder it becomes the same key again. Where only the content of an image says of
    which format it is, the extension is left out.

    Raises:
        DataError: if a key is not that of a file. It may come from a hostile index.
    """
    keys, labels = scan.keys.to_pylist(), scan.labels.tolist()
    classes = [_safe_name(name) for name in scan.classes]
    starts = [sample_key(f"{name}/_.jpg")[:-1] for name in classes]
    has_class = all(k.startswith(starts[n]) for k, n in zip(keys, labels, strict=True))
    for entry, (key, label) in enumerate(zip(keys, labels, strict=True)):
        name = os.fsdecode(unquote_to_bytes(key))
        if sample_key(f"{name}.jpg") != key:
            name = key  # cut because of its length: it cannot be undone
        parts = [_safe_name(part) for part in name.split("/")]
        parts = parts if has_class else [classes[label], *parts]
        extension = member_extension(scan.location(entry))
        last = f"{parts[-1]}.{extension}" if extension else parts[-1]
        yield "/".join([*parts[:-1], _safe_name(last)])


def _safe_name(name: str) -> str:
    """Refuse what would lead out of its folder, or is no name."""
    is_name = name not in ("", ".", "..", _LOCK_NAME) and len(os.fsencode(name)) <= _NAME_BYTES
    if not is_name or "/" in name or "\0" in name:
        raise DataError(f"{name!r} in a key or a class is not the name of a file or folder")
    return name


def _check_distinct(paths: Iterator[str]) -> None:
    hashes = np.fromiter(map(hash, paths), np.int64)
    if len(np.unique(hashes)) < len(hashes):
        raise DataError("two keys stand for one file: the source was not made by make_shards")


def _write_all(scan: Scan, folder: Path, progress: Progress) -> Iterator[Problem]:
    numbers = enumerate(file_paths(scan))
    if scan.blocks is not None:  # else each image costs as much as its whole block
        paths = [path for _, path in numbers]
        numbers = ((n, paths[n]) for n in np.argsort(scan.blocks, kind="stable").tolist())
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="write") as pool:
        while block := list(islice(numbers, _BLOCK)):
            for problem in pool.map(partial(_write, scan, folder), block):
                if problem is not None:
                    yield problem
            progress(len(block), int(scan.sizes[[entry for entry, _ in block]].sum()))


def _write(scan: Scan, folder: Path, numbered: tuple[int, str]) -> Problem | None:
    entry, path = numbered[0], folder / numbered[1]
    location = scan.location(entry)
    try:
        data = scan.reader.read(location)
        if not member_extension(location):
            path = path.with_name(f"{path.name}.{usual_extension(read_header(data).format)}")
    except (OSError, ValueError) as error:
        return Problem("unreadable image", location, str(error))
    if path.exists() and path.read_bytes() == data:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not synchronised one by one, which would take hours; all at once, at the end.
    part = path.with_name(f".{entry}{PART_SUFFIX}")
    part.write_bytes(data)
    part.replace(path)
    return None
