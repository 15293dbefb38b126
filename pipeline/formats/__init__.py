"""How samples lie on disk. `open_source` finds out which format a folder is in.

- `source`: the interface. `folder`, `shards`: the formats; `index` belongs to the shards.
- `scan`, `class_folders`: what there is to convert. `plan`: which sample goes into which shard.
- `tar_writer`, `shard_writer`: one shard. `conversion`: all of them, resumable; `manifest`: proof.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.formats.source import Source


def open_source(path: str | Path) -> "Source":
    """Open the data set at `path`: a folder of class folders, or of shards with their index.

    Raises:
        DataError: if there is nothing that can be read, with the reason.
    """
    # The formats are imported when they are needed, so that this package costs nothing.
    from pipeline.formats.folder import FolderSource
    from pipeline.formats.index import INDEX_NAME
    from pipeline.formats.shards import ShardSource
    from pipeline.formats.source import DataError

    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such folder; make shards with tools/make_shards.py")
    if not path.is_dir():
        raise DataError(f"{path}: a file; expected a folder of shards or of class folders")
    if (path / INDEX_NAME).exists():
        return ShardSource(path)
    if shards := sorted(path.glob("*.tar")) or sorted(path.glob("*.tar.part")):
        raise DataError(
            f"{path}: holds shards ({shards[0].name}, ...) but no {INDEX_NAME}: the conversion is"
            " not finished, or another program made them. Run tools/make_shards.py (again)"
        )
    if (path / "train").is_dir():
        raise DataError(f"{path}: holds splits; open one of them, such as {path / 'train'}")
    return FolderSource(path)
