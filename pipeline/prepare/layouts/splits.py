"""Splits made of what a layout lists: validation images held out of training, classes left out.

Whether an image is held out is a function of the seed and its key alone: images that are added or
removed later move no other one to the other side.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import DataError, Problem
from pipeline.formats.scan import Scan


def hold_out(
    list_train: Callable[[], Scan], *, fraction: float, seed: int
) -> dict[str, Callable[[], Scan]]:
    """What lists `train` and `val`, made of the images of a training split.

    Args:
        list_train: lists it; called once.
        fraction: expected share of `val`, in (0, 1).
        seed: of the choice.
    """
    once = cache(list_train)
    return {
        split: partial(_held_out, once, fraction=fraction, seed=seed, split=split)
        for split in ("train", "val")
    }


def _held_out(list_train: Callable[[], Scan], *, fraction: float, seed: int, split: str) -> Scan:
    scan = list_train()
    is_val = np.array([_draw(seed, key) < fraction for key in scan.keys.to_pylist()], np.bool_)
    if not is_val.any() or is_val.all():
        raise DataError(
            f"--val-fraction {fraction} leaves no image in {'train' if is_val.all() else 'val'}"
            f" of the {len(scan)} there are; choose another, or another --val-seed"
        )
    if split == "val":
        # What cannot be used is told once, with the training split.
        return replace(select(scan, is_val), problems=(), ignored={})
    counts = np.bincount(scan.labels, minlength=len(scan.classes))
    left = np.bincount(scan.labels[~is_val], minlength=len(scan.classes))
    emptied = tuple(
        Problem("empty class", scan.classes[label], "all of its images are held out for val")
        for label in np.flatnonzero((counts > 0) & (left == 0))
    )
    return replace(select(scan, ~is_val), problems=scan.problems + emptied)


def _draw(seed: int, key: str) -> float:
    """A number in [0, 1) that belongs to `key`."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def select(scan: Scan, chosen: NDArray[np.bool_]) -> Scan:
    """The entries of `scan` where `chosen`, (N,), is true; its classes stay as they are."""
    where = pa.array(chosen)
    return replace(
        scan,
        keys=scan.keys.filter(where),
        locations=scan.locations.filter(where),
        labels=scan.labels[chosen],
        sizes=scan.sizes[chosen],
        stamps=scan.stamps[chosen],
        blocks=None if scan.blocks is None else scan.blocks[chosen],
    )


def drop_empty_classes(
    splits: dict[str, Callable[[], Scan]],
) -> dict[str, Callable[[], Scan]]:
    """What lists the same splits without the classes that have no training image.

    Raises:
        DataError: if there is no training split, which says which classes there are.
    """
    if "train" not in splits:
        raise DataError("--drop-empty-classes looks at the training split, and there is none")
    once = {split: cache(listing) for split, listing in splits.items()}
    return {split: partial(_without_empty, once, split) for split in splits}


def _without_empty(splits: dict[str, Callable[[], Scan]], split: str) -> Scan:
    train, scan = splits["train"](), splits[split]()
    kept = np.bincount(train.labels, minlength=len(train.classes)) > 0
    if kept.all():
        return scan
    numbers = np.cumsum(kept, dtype=np.int32) - np.int32(1)
    gone = {name for name, stays in zip(train.classes, kept, strict=True) if not stays}
    left = select(scan, kept[scan.labels])
    return replace(
        left,
        classes=tuple(name for name in scan.classes if name not in gone),
        labels=numbers[left.labels],
        problems=tuple(p for p in scan.problems if not (_is_absence(p) and p.where in gone)),
    )


def _is_absence(problem: Problem) -> bool:
    return problem.kind in ("empty class", "missing class")
