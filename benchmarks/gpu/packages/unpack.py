"""Unpack what `pack.py` has packed into a folder for PYTHONPATH. Needs nothing but Python.

    python3 benchmarks/gpu/packages/unpack.py PACKAGES SITE

PACKAGES may come in several transfers: each brings some of the files that the manifest lists, and
what has not come yet is named. Every file is compared with its SHA-256 before anything is unpacked.
SITE belongs to this user alone; the same packages are not unpacked twice.
"""

import hashlib
import json
import os
import shutil
import stat
import sys
import tarfile
from contextlib import closing
from pathlib import Path

MANIFEST = "packages.json"
_BLOCK = 1 << 20
_DONE = ".packages.json"


def main(argv: list[str]) -> int:
    """Unpack; returns the exit code."""
    if len(argv) != 2:
        print(f"usage: {Path(__file__).name} PACKAGES SITE", file=sys.stderr)
        return 2
    try:
        unpack(Path(argv[0]), Path(argv[1]))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def unpack(packages: Path, site: Path) -> None:
    """Unpack the archive whose parts lie in `packages`.

    Raises:
        ValueError: if a part is missing or damaged, or the folder is somebody else's.
        OSError: if a file cannot be read or written.
    """
    manifest = (packages / MANIFEST).read_bytes()
    _own(site)
    done = site / _DONE
    if done.exists() and done.read_bytes() == manifest:
        return
    parts = json.loads(manifest)["parts"]
    _check(packages, parts)
    for old in site.iterdir():  # of other packages, or of an unpacking that was cut off
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    paths = [packages / part["name"] for part in parts]
    with closing(_Joined(paths)) as joined, tarfile.open(fileobj=joined, mode="r|xz") as archive:
        archive.extractall(site, filter="data")
    done.write_bytes(manifest)  # last: without it, all is unpacked again
    print(f"unpacked {len(parts)} parts into {site}")


def _own(site: Path) -> None:
    """Make the folder, for this user alone; others could put code into it."""
    site.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = site.lstat()
    is_mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_mine or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError(
            f"{site}: belongs to somebody else, or others may write into it; remove it, or set"
            " TMPDIR to a folder of your own"
        )


def _check(packages: Path, parts: list[dict[str, str]]) -> None:
    missing = [part["name"] for part in parts if not (packages / part["name"]).is_file()]
    if missing:
        raise ValueError(f"{packages}: has no {', '.join(missing)} yet; bring all of it")
    for part in parts:
        if _sha256(packages / part["name"]) != part["sha256"]:
            raise ValueError(f"{packages / part['name']}: damaged on the way; bring it again")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class _Joined:
    """The parts of an archive as one file that is read from its beginning."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = iter(paths)
        self._file = next(self._paths).open("rb")

    def read(self, size: int) -> bytes:
        """Return the next bytes, `size` at most; none at the end."""
        while not (data := self._file.read(size)):
            self._file.close()
            following = next(self._paths, None)
            if following is None:
                return b""
            self._file = following.open("rb")
        return data

    def close(self) -> None:
        """Close the part that is being read."""
        self._file.close()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
