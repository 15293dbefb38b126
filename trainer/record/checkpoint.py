"""Checkpoints: one folder of safetensors and JSON for each, complete or not there at all.

A checkpoint is written under `step_N.tmp`, synced, and renamed; a kill at any moment leaves the
ones before it whole. Where the same step was saved before, that one is `step_N.old` for the moment
between two renames, and counts. `meta.json` has a checksum of itself and of each file beside it.
A checkpoint holds no pickles, and does not depend on world size or ZeRO stage.
`model.safetensors` and `ema.safetensors` are plain state_dicts that timm loads.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.storage.files import file_sha256, sync
from trainer.engine.state import TrainingState
from trainer.record.meta import FORMAT, CheckpointError, Meta, digest, parse, read_tree


def write(root: Path, state: TrainingState, meta: Meta, *, keep: int) -> Path:
    """Write a checkpoint (rank 0), then delete all but the `keep` newest whole and the best one.

    Raises:
        CheckpointError: if the disk is full, say; the checkpoints before it are untouched.
    """
    final = root / f"step_{meta.progress.step:08d}"
    part = final.with_suffix(".tmp")
    try:
        for leftover in root.glob("step_*.tmp"):
            shutil.rmtree(leftover)
        part.mkdir()
        _write_parts(part, state, meta)
        _put_in_place(part, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(
            f"{final}: cannot be written ({error}); the checkpoints before it are untouched."
            " Free space on the disk and start the same command again"
        ) from error
    try:
        _prune(root, keep, newest=final)
    except OSError as error:
        raise CheckpointError(
            f"{root}: an old checkpoint cannot be deleted ({error}); {final.name} is complete."
            " Mend that and start the same command again"
        ) from error
    return final


def find_latest(root: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint, and a line about each damaged one that was passed over.

    Raises:
        CheckpointError: if there are checkpoints and none is whole, or one has another format.
    """
    damaged: list[str] = []
    for path in reversed(_folders(root)):
        problem = _problem(path)
        if problem is None:
            return path, damaged
        damaged.append(f"{path}: {problem}; passed over")
    if damaged:
        raise CheckpointError(
            "no checkpoint is whole:\n  "
            + "\n  ".join(damaged)
            + f"\nRestore one from a copy, or delete {root} to start anew"
        )
    return None, damaged


def find_best(root: Path) -> Path | None:
    """The whole checkpoint whose evaluation had the highest top-1, the later of equals."""
    return next((path for path in _ranking(root) if _problem(path) is None), None)


def read_meta(path: Path) -> Meta:
    """Read `meta.json` of a checkpoint folder.

    Raises:
        CheckpointError: if it has another format.
        OSError, ValueError, KeyError, TypeError: if it is damaged.
    """
    return parse(read_tree(path))


def read(path: Path) -> tuple[TrainingState, Meta]:
    """Read a complete checkpoint folder into memory."""
    tree = read_tree(path)
    state = TrainingState(
        model=load_file(path / "model.safetensors"),
        ema=load_file(path / "ema.safetensors") if "ema.safetensors" in tree["files"] else {},
        optimizer_step=tree["optimizer_step"],
        loss_scaler=tree["loss_scaler"],
    )
    if "optimizer.safetensors" in tree["files"]:
        flat = load_file(path / "optimizer.safetensors")
        for name, tensor in flat.items():
            key, parameter = name.split("/", 1)
            state.moments.setdefault(key, {})[parameter] = tensor
    return state, parse(tree)


def _write_parts(part: Path, state: TrainingState, meta: Meta) -> None:
    tensors: dict[str, dict[str, Tensor]] = {"model.safetensors": state.model}
    if state.ema:
        tensors["ema.safetensors"] = state.ema
    if state.moments:
        tensors["optimizer.safetensors"] = {
            f"{key}/{name}": tensor
            for key, named in state.moments.items()
            for name, tensor in named.items()
        }
    said = meta.model.as_metadata() if meta.model else {}
    for name, named in tensors.items():
        save_file(named, part / name, metadata={"format": "pt", **said})
    files = {
        name: {"size": (part / name).stat().st_size, "sha256": file_sha256(part / name)}
        for name in tensors
    }
    tree = {
        "format": FORMAT,
        **asdict(meta),
        "optimizer_step": state.optimizer_step,
        "loss_scaler": state.loss_scaler,
        "files": files,
    }
    tree["sha256"] = digest(tree)
    (part / "meta.json").write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    for path in part.iterdir():
        sync(path)
    sync(part)


def _put_in_place(part: Path, final: Path) -> None:
    """Rename, so that at each moment there is a whole checkpoint of the step if there was one."""
    old = final.with_suffix(".old")
    if final.exists():
        if old.exists():
            shutil.rmtree(old)
        final.rename(old)
    part.rename(final)
    sync(final.parent)
    if old.exists():
        _remove(old)


def _folders(root: Path) -> list[Path]:
    """All checkpoint folders, from old to new."""
    finals = list(root.glob("step_*[0-9]"))
    olds = (path for path in root.glob("step_*.old") if path.with_suffix("") not in finals)
    return sorted([*finals, *olds])


def _problem(path: Path, *, hashes: bool = True) -> str | None:
    """Why a checkpoint folder is not whole; None if it is. Without `hashes`, sizes must do."""
    try:
        tree = read_tree(path)
        parse(tree)
        for name, known in tree["files"].items():
            size = (path / name).stat().st_size
            if size != known["size"]:
                return f"{name} has {size} bytes instead of {known['size']}"
            if hashes and file_sha256(path / name) != known["sha256"]:
                return f"{name} does not have its sha256"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"meta.json or a file it names cannot be read ({error})"
    return None


def _ranking(root: Path) -> list[Path]:
    """Evaluated checkpoints that look whole, from the best to the worst, the later of equals first.

    A checkpoint of another format is none of them.
    """
    scores = [(top1, path) for path in _folders(root) if (top1 := _top1(path)) is not None]
    return [path for _, path in sorted(scores, reverse=True)]


def _top1(path: Path) -> float | None:
    try:
        evaluated = read_meta(path).evaluated if _problem(path, hashes=False) is None else None
    except CheckpointError:
        return None
    return evaluated.top1 if evaluated else None


def _prune(root: Path, keep: int, *, newest: Path) -> None:
    """Delete what is damaged or later than the step just saved, and all but the newest and best.

    Later ones are damaged too: the run would have gone on from a whole one.
    """
    paths = _folders(root)
    whole = [path for path in paths if path <= newest and _problem(path, hashes=False) is None]
    best = [path for path in _ranking(root) if path in whole][:1]
    for path in paths:
        if path not in whole[-keep:] and path not in best:
            _remove(path)


def _remove(path: Path) -> None:
    """Delete a checkpoint; a kill on the way leaves nothing that looks like one."""
    doomed = path.with_suffix(".tmp")
    if doomed.exists():
        shutil.rmtree(doomed)
    path.rename(doomed)
    shutil.rmtree(doomed)
