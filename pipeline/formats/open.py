"""Opens a split for whoever reads samples: finds out which format lies there."""

from pathlib import Path

from pipeline.config import DataConfig
from pipeline.errors import DataError
from pipeline.formats.ffcv_source import FfcvSource
from pipeline.formats.folder_source import FolderSource
from pipeline.formats.remote_source import RemoteShardSource
from pipeline.formats.shard_cache import cache_config
from pipeline.formats.shard_folder import INDEX_NAME, state_of_folder
from pipeline.formats.shard_source import ShardSource
from pipeline.formats.source import Source

MAX_NAMED = 6
"""Folders that a message lists."""


def open_split(data: DataConfig, split: str) -> Source:
    """Open a split of the data that a recipe names. Raises as `open_source` does."""
    check_split(data, split)
    return open_source(f"{data.root.rstrip('/')}/{split}", data)


def check_split(data: DataConfig, split: str) -> None:
    """See that something lies where the split of a local `data.root` should.

    Raises:
        DataError: if not; it names what lies beside.
    """
    root = Path(data.root)
    if "://" in data.root or (root / split).exists() or (root / f"{split}.beton").exists():
        return
    if not root.is_dir():
        what = "is a file" if root.exists() else "there is no such folder"
        raise DataError(
            f"data.root: {root}: {what}; name a folder that holds train/ and val/, such as"
            " tools/make_shards.py writes"
        )
    beside = sorted(path.name for path in root.iterdir() if path.is_dir())[:MAX_NAMED]
    lies = f"beside {', '.join(beside)}" if beside else "in an empty folder"
    remedy = "it must hold train/ and val/"
    if split == "val" and "train" in beside:
        take = "--val-folder test" if "test" in beside else "--val-fraction 0.05"
        remedy = f"`python tools/make_shards.py {root} {take}` makes both splits of it"
    raise DataError(f"{root}: there is no {split}/ ({lies}); {remedy}")


def open_source(path: str | Path, data: DataConfig | None = None) -> Source:
    """Open the data set at `path`: a folder of class folders, of shards, or with an FFCV file.

    A URL (s3://, gs://, http://, https://) is of a folder of shards, for which `data` names
    the cache.

    An FFCV file is found as `path` itself, as the one `*.beton` in the folder, and, where there is
    no folder, as `path`.beton, which is how FFCV's users name a split.

    Raises:
        DataError: if there is nothing that can be read, with the reason.
    """
    if "://" in str(path):
        return RemoteShardSource(str(path), cache_config(data or DataConfig()))
    path = Path(path)
    if beton := _find_ffcv(path):
        return FfcvSource(beton)
    if not path.exists():
        raise DataError(f"{path}: there is no such folder; make shards with tools/make_shards.py")
    if not path.is_dir():
        raise DataError(
            f"{path}: a file; expected a folder of shards or of class folders, or a .beton"
        )
    state = state_of_folder(path)
    if state.has_index:
        return ShardSource(path)
    if state.shards:
        raise DataError(
            f"{path}: holds shards ({state.shards[0]}, ...) but no {INDEX_NAME}: the conversion is"
            " not finished, or another program made them. Run tools/make_shards.py (again)"
        )
    if state.is_unfinished:
        raise DataError(f"{path}: the conversion is not finished; run tools/make_shards.py again")
    if (path / "train").is_dir():
        raise DataError(f"{path}: holds splits; open one of them, such as {path / 'train'}")
    return FolderSource(path)


def _find_ffcv(path: Path) -> Path | None:
    """Return the FFCV file that `path` stands for."""
    if path.is_file():
        return path if path.suffix == ".beton" else None
    if not path.exists():
        beside = path.with_name(f"{path.name}.beton")
        return beside if beside.is_file() else None
    inside = sorted(path.glob("*.beton"))
    if len(inside) > 1:
        names = ", ".join(file.name for file in inside)
        raise DataError(f"{path}: holds several FFCV files ({names}); open one of them")
    return inside[0] if inside else None
