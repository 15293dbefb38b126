"""The list of steps that were skipped or whose loss spiked: `odd_steps.jsonl` in a run's folder.

An object a line, with the samples of the step, so that the images can be looked at.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipeline.storage.files import write_atomically

NAME = "odd_steps.jsonl"
MOST = 100
"""Lines of a file; a line may name thousands of samples."""
_FEW = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class OddStep:
    """What is known of a step that was not as others; a contract that other programs read."""

    step: int
    """Counted from 1."""
    epoch: int
    """Counted from 0."""
    what: Literal["not finite", "spike"]
    """Gradients that are not finite, so that the step was skipped; or a loss far above others."""
    loss: float | None
    """Over all ranks; None where it was not finite."""
    rank_losses: tuple[float | None, ...]
    """Of each rank's share of the batch."""
    median: float | None = None
    """Of the losses before; of a spike."""
    first_weight: str = ""
    """The first one, in the order of the model, whose gradient is not finite; empty if each of them
    is and their common norm is not."""
    last_weight: str = ""
    """Likewise the last, which the backward pass comes to first."""
    num_weights: int = 0
    """Weights whose gradients are not finite."""
    samples: tuple[tuple[str, ...], ...]
    """Keys of the images of each rank."""

    def in_words(self) -> str:
        """A line for the log."""
        head = f"step {self.step}"
        if self.what == "spike":
            text = f"{head}: the loss spiked to {self.loss:.4f}, from a median of {self.median:.4f}"
        else:
            text = f"{head} was skipped: {self._gradients_in_words()}"
        rank = self.suspect
        where = "the images" if rank is None else f"those of rank {rank}"
        keys = self.samples[rank or 0][:_FEW]
        return f"{text}; {where} were {', '.join(keys)}, ..., all of them in {NAME}"

    def _gradients_in_words(self) -> str:
        if not self.num_weights:
            return "the norm of the gradient is not finite, though each weight's is"
        more = f" and of {self.num_weights - 1} other weights" if self.num_weights > 1 else ""
        verb = "are" if more else "is"
        return f"the gradient of {self.first_weight}{more} {verb} not finite"

    @property
    def suspect(self) -> int | None:
        """The rank whose share stands out: the first whose loss is not finite, or the largest.

        None where none does.
        """
        if None in self.rank_losses:
            return self.rank_losses.index(None)
        finite = [loss for loss in self.rank_losses if loss is not None]
        if self.what == "spike" and len(finite) > 1:
            return finite.index(max(finite))
        return None


class OddStepList:
    """The file, as rank 0 writes it."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Go on after optimizer step `step`; what later ones left here happens again."""
        self._path = folder / NAME
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        kept = [line for line in lines if line.endswith(b"}") and json.loads(line)["step"] <= step]
        self._count = len(kept)
        if len(kept) < len(lines):
            write_atomically(self._path, b"".join(line + b"\n" for line in kept))

    def add(self, odd: OddStep) -> bool:
        """Append a line; whether the file still takes lines.

        Raises:
            OSError: if the disk does not take it.
        """
        if self._count >= MOST:
            return False
        with self._path.open("ab") as file:
            file.write(json.dumps(asdict(odd)).encode() + b"\n")
        self._count += 1
        return True
