"""Shards that are written to an object store: made in a local folder, then stored.

A shard counts as stored when its record is, which comes after the tar; the index follows when all
shards are there, the manifest last, which readers look for. The local folder only ever holds the
shards that are being written; a file of the same size, but without blocks, stands for each one that
is stored. What matters is in the store, so a run on any machine goes on with what others began.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.formats.shard_folder import INDEX_NAME, MANIFEST_NAME, STATE_FOLDER, state_of
from pipeline.prepare.conversion.conversion import Conversion, resume_key
from pipeline.prepare.conversion.parts import COUNT_NAME, WHOLE, Part, read_count
from pipeline.prepare.conversion.run import STATE_NAME, refuse_other_content
from pipeline.prepare.writers.shard_record import make_empty
from pipeline.storage.files import write_atomically
from pipeline.storage.locks import locked
from pipeline.storage.remote import RemoteFolder


def staging_folder(remote: RemoteFolder, part: Part) -> Path:
    """Return where a part of the shards for `remote` is made: in $TMPDIR, one for each user."""
    name = hashlib.sha256(remote.url.encode()).hexdigest()[:16]
    root = Path(tempfile.gettempdir(), f"millstream-staging-{os.getuid()}")
    return root / f"{name}-{part.number}-of-{part.count}"


@contextmanager
def staged(conversion: Conversion, part: Part) -> Iterator[None]:
    """Fetch what is known of a remote output; store the result if there is no error.

    Raises:
        OutputError: if another process of this machine is at it.
    """
    folder, remote = conversion.folder, conversion.remote
    assert remote is not None
    with _staging_held(folder, remote):
        _fetch_state(remote, folder, conversion, part)
        yield
        _store_result(remote, folder)
        shutil.rmtree(folder)


@contextmanager
def staged_for_looking(conversion: Conversion) -> Iterator[None]:
    """Fetch what is known of a remote output into a folder for the moment; nothing is stored."""
    folder, remote = conversion.folder, conversion.remote
    assert remote is not None
    sizes = {file.path: file.size for file in remote.files()}
    with _staging_held(folder, remote):
        shutil.rmtree(folder, ignore_errors=True)
        for name in (MANIFEST_NAME, f"{STATE_FOLDER}/{STATE_NAME}"):
            if name in sizes:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(folder / name, remote.read(name))
        _refuse_other_content(remote, sizes)
        yield
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _staging_held(folder: Path, remote: RemoteFolder) -> Iterator[None]:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    refusal = f"{remote.url}: another process is writing shards there"
    with locked(folder.with_suffix(".lock"), refusal):
        yield


def _refuse_other_content(remote: RemoteFolder, sizes: dict[str, int]) -> None:
    refuse_other_content(state_of({path.partition("/")[0] for path in sizes}), remote.url)


def _fetch_state(remote: RemoteFolder, folder: Path, conversion: Conversion, part: Part) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / STATE_FOLDER).mkdir(parents=True)
    sizes = {file.path: file.size for file in remote.files()}
    if MANIFEST_NAME in sizes:
        write_atomically(folder / MANIFEST_NAME, remote.read(MANIFEST_NAME))
        return
    _refuse_other_content(remote, sizes)
    state = {STATE_NAME: resume_key(conversion)}
    if part != WHOLE:
        state[COUNT_NAME] = str(part.count).encode()
    for name in (STATE_NAME, COUNT_NAME):
        path = f"{STATE_FOLDER}/{name}"
        if path in sizes:
            write_atomically(folder / path, remote.read(path))
        elif name in state:
            _store_bytes(remote, folder / path, state[name], path)
    if part != WHOLE and (count := read_count(folder / STATE_FOLDER)) != part.count:
        raise OutputError(
            f"{remote.url}: is being written in {count} parts, not {part.count}; go on with those,"
            " or run without --part, which completes what they have begun"
        )
    for path in sizes:
        tar = f"{Path(path).stem}.tar"
        if path.startswith(f"{STATE_FOLDER}/") and path.endswith(".arrow") and tar in sizes:
            write_atomically(folder / path, remote.read(path))
            make_empty(folder / tar, sizes[tar])


def _store_result(remote: RemoteFolder, folder: Path) -> None:
    """Store what was made beside the shards, the manifest last; then the state goes."""
    stored = {file.path for file in remote.files()}
    is_complete = (folder / MANIFEST_NAME).exists()
    others = [p for p in _files(folder) if p not in stored and p != MANIFEST_NAME]
    for path in others:
        remote.upload(folder / path, path)
    if not is_complete:
        return
    if MANIFEST_NAME not in stored:
        assert INDEX_NAME in stored.union(others)
        remote.upload(folder / MANIFEST_NAME, MANIFEST_NAME)
    remote.remove([path for path in stored if path.startswith(f"{STATE_FOLDER}/")])


def _files(folder: Path) -> Iterable[str]:
    """Files to be stored: not the shards, which are, and not the state, which goes."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        is_shard = path.parent == folder and path.suffix in (".tar", ".idx")
        if path.is_file() and not is_shard and not name.startswith(STATE_FOLDER):
            yield name


def _store_bytes(remote: RemoteFolder, local: Path, content: bytes, path: str) -> None:
    write_atomically(local, content)
    remote.upload(local, path)
