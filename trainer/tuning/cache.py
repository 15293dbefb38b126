"""What `tools/tune.py` found, on disk: a JSON file for each machine, model and batch.

Kept beside the project and not in it: it is about a machine. A file that cannot be read, such as
one of another version, is as none.
"""

import dataclasses
import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from models.build import published_with
from pipeline.storage.files import write_atomically
from trainer import yaml_config
from trainer.recipe import Recipe
from trainer.tuning.choice import Choice

VARIABLE = "MILLSTREAM_TUNE_CACHE"
FORMAT = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What a choice is best for. Where any of it differs, another one may be."""

    device: str
    """The GPU's name, or the processor's with the threads of a rank."""
    torch: str
    model: str
    arguments: str
    """Of the model's constructor, as JSON."""
    img_size: int
    batch: int
    """Images that a rank processes at once."""
    dtype: str
    allow_tf32: bool
    grad_checkpointing: bool

    @property
    def path(self) -> Path:
        """Where it is kept."""
        key = json.dumps(dataclasses.asdict(self), sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        name = re.sub(r"[^\w.-]", "_", self.model)
        return folder() / f"{name}_{self.batch}_{digest}.json"


def case_of(recipe: Recipe, device: torch.device) -> Case:
    """What `recipe` computes on `device`, with `batch.per_gpu` a number and torch's threads set."""
    model = recipe.model
    return Case(
        device=device_name(device),
        torch=torch.__version__,
        model=model.name,
        arguments=json.dumps(model.args, sort_keys=True),
        img_size=model.img_size or published_with(model.name)[0],
        batch=recipe.batch.known_per_gpu,
        dtype=recipe.precision.dtype,
        allow_tf32=recipe.precision.allow_tf32,
        grad_checkpointing=model.grad_checkpointing,
    )


def folder() -> Path:
    """Where choices are kept: $MILLSTREAM_TUNE_CACHE, or millstream/tuned in the user's cache."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "millstream" / "tuned"


def device_name(device: torch.device) -> str:
    """What computes, as `Case` has it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} threads"


def read(case: Case) -> Choice | None:
    """What was found for `case`; None if nothing was."""
    found = _read(case)
    return None if found is None else found[0]


def is_whole(case: Case) -> bool:
    """Whether something was found for `case` by a measurement that was not interrupted."""
    found = _read(case)
    return found is not None and found[1]


def check_writable() -> None:
    """See, before minutes are spent on it, that a finding can be kept; makes nothing.

    Raises:
        OSError: if it cannot.
    """
    wanted = folder()
    nearest = next(place for place in (wanted, *wanted.parents) if place.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        rule = f"is no folder that can be written to; name one in {VARIABLE}"
        raise OSError(errno.EACCES, rule, str(nearest))


def _read(case: Case) -> tuple[Choice, bool] | None:
    """The choice, and whether nothing interrupted its measurement."""
    try:
        stored = json.loads(case.path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT or stored["case"] != dataclasses.asdict(case):
            return None
        choice = yaml_config.from_tree(Choice, stored["choice"], where=str(case.path))
        return choice, not stored.get("is_cut", False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read (%s), and is left alone", case.path, error)
        return None


def write(case: Case, choice: Choice, report: Mapping[str, object]) -> Path:
    """Keep `choice` for `case`, with the `report` of how it was found; returns the file.

    Raises:
        OSError: if it cannot be written.
    """
    content = {
        "format": FORMAT,
        "case": dataclasses.asdict(case),
        "choice": dataclasses.asdict(choice),
        **report,
    }
    case.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(case.path, json.dumps(content, indent=1).encode() + b"\n")
    return case.path
