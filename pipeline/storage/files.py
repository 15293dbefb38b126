"""Writing files so that they are there completely or not at all, whatever happens in between."""

import hashlib
import os
from pathlib import Path

_BLOCK = 1 << 20

PART_SUFFIX = ".part"
"""Of files that are not complete yet."""


def is_plain_name(name: str) -> bool:
    """Whether a name, perhaps from elsewhere, is that of a file in the same folder."""
    return name == Path(name).name and "\0" not in name and name not in ("", ".", "..")


def part_path(path: Path) -> Path:
    """Return the name under which this process writes `path`.

    It has the process's number in it: on a file system without locks, a worker that outlives its
    killed parent must not write into the same file as the worker that took over.
    """
    return path.with_name(f"{path.name}.{os.getpid()}{PART_SUFFIX}")


def finish_part(part: Path) -> Path:
    """Bring a completely written part to the disk and give it its name; returns that."""
    path = part.with_name(part.name.removesuffix(PART_SUFFIX).rpartition(".")[0])
    sync(part)
    part.replace(path)
    sync(path.parent)
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a small file."""
    part = part_path(path)
    part.write_bytes(data)
    finish_part(part)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left unfinished in `folder` and below."""
    for part in folder.rglob(f"*{PART_SUFFIX}"):
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
