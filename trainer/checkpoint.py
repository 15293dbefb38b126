"""Checkpoints: one folder of safetensors and JSON for each, complete or not there at all.

A checkpoint is written under `step_N.tmp`, synced, and renamed; a kill at any moment leaves the
ones before it whole. It holds no pickles, and does not depend on world size or ZeRO stage.
`model.safetensors` and `ema.safetensors` are plain state_dicts that timm loads.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.description import ModelDescription, description_from_tree
from pipeline.storage.files import file_sha256, sync
from trainer.events import Evaluated
from trainer.zero_state import TrainingState

FORMAT = 1
"""Version of the layout; a reader refuses any other."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message says what is left and the remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunProgress:
    """How far a run is: all the loader state that a checkpoint needs."""

    epoch: int = 0
    step_in_epoch: int = 0
    """Optimizer steps done in `epoch`."""
    step: int = 0
    """Optimizer steps done in the run."""
    best_top1: float = -1.0
    """The best top-1 of all evaluations so far; -1 before the first."""
    evaluations_since_best: int = 0

    def after_epoch(self, evaluated: Evaluated | None) -> "RunProgress":
        """The progress when the epoch is over, and evaluated where it was."""
        done = replace(self, epoch=self.epoch + 1, step_in_epoch=0)
        if evaluated is None:
            return done
        if evaluated.top1 > self.best_top1:
            return replace(done, best_top1=evaluated.top1, evaluations_since_best=0)
        return replace(done, evaluations_since_best=self.evaluations_since_best + 1)

    def is_stale(self, patience: int) -> bool:
        """Whether `patience` evaluations in a row were no better; never if it is 0."""
        return 0 < patience <= self.evaluations_since_best


@dataclass(kw_only=True, slots=True)
class Tally:
    """What a run has cost so far, over all its processes, as rank 0 sees it."""

    images: int = 0
    """Training images, over all ranks."""
    train_s: float = 0.0
    """Seconds in optimizer steps, waiting for data included."""
    wait_s: float = 0.0
    """Seconds of these spent waiting for data."""
    wall_s: float = 0.0
    """Seconds in all, up to the last save."""

    @property
    def images_per_s(self) -> float:
        """Training throughput."""
        return self.images / self.train_s if self.train_s else 0.0

    def since(self, earlier: "Tally") -> "Tally":
        """The difference to an earlier tally of the same run."""
        names = ("images", "train_s", "wait_s", "wall_s")
        return Tally(**{name: getattr(self, name) - getattr(earlier, name) for name in names})


@dataclass(frozen=True, kw_only=True, slots=True)
class Meta:
    """What `meta.json` says beside the tensors."""

    progress: RunProgress
    results_fingerprint: str
    """Of the recipe (`Recipe.results_fingerprint`)."""
    data_fingerprint: str
    """Of the training data: number of images and class names."""
    tally: Tally
    evaluated: Evaluated | None = None
    """The evaluation just before the checkpoint; of the EMA weights if there are any."""
    environment: dict[str, str | int] = field(default_factory=dict)
    """World size, ZeRO stage, versions, commit: for the reader, not for resuming."""
    model: ModelDescription | None = None
    """What the weights are of; None in checkpoints from before it was written."""


def write(root: Path, state: TrainingState, meta: Meta, *, keep: int) -> Path:
    """Write a checkpoint (rank 0), then delete all but the `keep` newest and the best one.

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
        if final.exists():  # a kill came between this same save and its log line
            shutil.rmtree(final)
        part.rename(final)
        sync(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(
            f"{final}: cannot be written ({error}); the checkpoints before it are untouched."
            " Free space on the disk and start the same command again"
        ) from error
    _prune(root, keep)
    return final


def find_latest(root: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint, and a line about each damaged one that was passed over.

    Raises:
        CheckpointError: if there are checkpoints and none is whole, or one has another format.
    """
    damaged: list[str] = []
    for path in sorted(root.glob("step_*[0-9]"), reverse=True):
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
    """The checkpoint whose evaluation had the highest top-1, the later of equals."""
    scores = [
        (top1, path) for path in root.glob("step_*[0-9]") if (top1 := _top1(path)) is not None
    ]
    return max(scores)[1] if scores else None


def read_meta(path: Path) -> Meta:
    """Read `meta.json` of a checkpoint folder.

    Raises:
        CheckpointError: if it has another format.
    """
    tree = json.loads((path / "meta.json").read_text(encoding="utf-8"))
    if tree["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: format {tree['format']}, and this version reads format {FORMAT};"
            " use the version that wrote it"
        )
    names = ("results_fingerprint", "data_fingerprint", "environment")
    return Meta(
        progress=RunProgress(**tree["progress"]),
        tally=Tally(**tree["tally"]),
        evaluated=Evaluated(**tree["evaluated"]) if tree["evaluated"] else None,
        model=description_from_tree(tree["model"]) if tree.get("model") else None,
        **{name: tree[name] for name in names},
    )


def read(path: Path) -> tuple[TrainingState, Meta]:
    """Read a complete checkpoint folder into memory."""
    tree = json.loads((path / "meta.json").read_text(encoding="utf-8"))
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
    return state, read_meta(path)


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
    (part / "meta.json").write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    for path in part.iterdir():
        sync(path)
    sync(part)


def _problem(path: Path) -> str | None:
    """Why a checkpoint folder is not whole; None if it is."""
    try:
        read_meta(path)
        files = json.loads((path / "meta.json").read_text(encoding="utf-8"))["files"]
        for name, known in files.items():
            size = (path / name).stat().st_size
            if size != known["size"]:
                return f"{name} has {size} bytes instead of {known['size']}"
            if file_sha256(path / name) != known["sha256"]:
                return f"{name} does not have its sha256"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"meta.json or a file it names cannot be read ({error})"
    return None


def _top1(path: Path) -> float | None:
    """Of the evaluation before a checkpoint; None without one, or where `meta.json` is damaged."""
    try:
        evaluated = read_meta(path).evaluated
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return evaluated.top1 if evaluated else None


def _prune(root: Path, keep: int) -> None:
    paths, best = sorted(root.glob("step_*[0-9]")), find_best(root)
    for path in paths[:-keep]:
        if path != best:
            shutil.rmtree(path)
