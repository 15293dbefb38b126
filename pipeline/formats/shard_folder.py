"""What a folder of shards is made of: the names of its files, and what state it is in."""

from pathlib import Path

INDEX_NAME = "index.arrow"
MANIFEST_NAME = "manifest.json"
REPORT_NAME = "report.tsv"
STATE_FOLDER = ".parts"
"""Holds the state of a conversion that is not finished."""


def shard_name(split: str, shard: int) -> str:
    """Return the file name of a shard."""
    return f"{split}-{shard:06d}.tar"


def record_path(shard: Path) -> Path:
    """Return where the record of a shard lies."""
    return shard.parent / STATE_FOLDER / shard.with_suffix(".arrow").name
