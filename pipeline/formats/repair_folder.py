"""Where repairs are made before they are put in place; and what cannot be repaired in parts."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.manifest import Manifest
from pipeline.formats.parts import WHOLE, claimed
from pipeline.formats.shard_folder import PARTS_FOLDER

_NAME = ".repair"


@contextmanager
def repair_folder(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield a folder in `folder`, on the same file system, which is removed however it ends.

    Raises:
        DataError: if `folder` holds an FFCV file.
        OutputError: if another process repairs it.
    """
    if Path(manifest["shards"][0]["name"]).suffix == ".beton":
        raise DataError(
            f"{folder}: an FFCV file is made again as a whole, with its index: remove the folder,"
            " and run tools/make_shards.py again with the options that its manifest.json has"
        )
    scratch = folder / _NAME
    (scratch / PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
    with claimed(scratch / PARTS_FOLDER, WHOLE, lambda: None):
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch)
