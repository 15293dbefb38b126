"""What a folder of shards is made of: the names of its files, and what state it is in."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

INDEX_NAME = "index.arrow"
MANIFEST_NAME = "manifest.json"
REPORT_NAME = "report.tsv"
STATE_FOLDER = ".parts"
"""Holds the state of a conversion that is not finished."""


_SHARD = re.compile(r".*\.tar(\.(\d+\.)?part)?|.*\.beton")


class FolderState(NamedTuple):
    """What the names in a folder say of it.

    Attributes:
        has_manifest: it holds shards that were completed.
        has_index: it holds shards that can be read.
        is_unfinished: a conversion into it goes on, or was stopped.
        shards: names of all shards and FFCV files in it, whoever made them.
        is_empty: nothing is in it.
    """

    has_manifest: bool
    has_index: bool
    is_unfinished: bool
    shards: tuple[str, ...]
    is_empty: bool


def state_of(names: Iterable[str]) -> FolderState:
    """Judge a folder by the `names` of the files and folders in it."""
    there = sorted(names)
    return FolderState(
        has_manifest=MANIFEST_NAME in there,
        has_index=INDEX_NAME in there,
        is_unfinished=STATE_FOLDER in there,
        shards=tuple(filter(_SHARD.fullmatch, there)),
        is_empty=not there,
    )


def state_of_folder(folder: Path) -> FolderState:
    """Judge a folder of this machine; one that does not exist is empty."""
    return state_of(path.name for path in folder.iterdir()) if folder.is_dir() else state_of(())


def shard_name(split: str, shard: int) -> str:
    """Return the file name of a shard."""
    return f"{split}-{shard:06d}.tar"


def record_path(shard: Path) -> Path:
    """Return where the record of a shard lies."""
    return shard.parent / STATE_FOLDER / shard.with_suffix(".arrow").name
