"""A shard that was made in a local folder goes to an object store."""

from pathlib import Path

from pipeline.formats.shard_folder import piece_path
from pipeline.storage.remote import RemoteFolder


def store_shard(remote: RemoteFolder, folder: Path, name: str) -> None:
    """Store the shard `name`, which is complete in `folder`, and give its blocks back."""
    tar = folder / name
    size = tar.stat().st_size
    for path in (tar, tar.with_suffix(".idx"), piece_path(tar)):
        remote.upload(path, str(path.relative_to(folder)))
    make_empty(tar, size)


def make_empty(path: Path, size: int) -> None:
    """Make a file of `size` bytes that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
