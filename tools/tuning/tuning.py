"""A recipe's model tuned on a device: candidates timed, and the winner kept."""

import datetime
import gc
import importlib.metadata
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from models.kernels import switch
from tools.tuning.candidates import candidates
from tools.tuning.contest import Candidate, Contest
from tools.tuning.training_step import check_room, make_model, make_step
from trainer.process.allocator import keep_freed_memory
from trainer.process.tf32 import allow_tf32
from trainer.recipe import Recipe
from trainer.tuning import cache


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What was found.

    Attributes:
        case: for what.
        contest: the candidates and their times.
        path: where it is kept.
        is_kept: whether it is; false where it was interrupted, and an earlier one was not.
    """

    case: cache.Case
    contest: Contest
    path: Path
    is_kept: bool

    def images_per_s(self, candidate: Candidate) -> float:
        """Of the median step."""
        return self.case.batch / candidate.median_s


def prepare(recipe: Recipe, device: torch.device) -> None:
    """Set this process up as a run of one rank is.

    Raises:
        ValueError: if MILLSTREAM_KERNELS decides what is to be tried.
    """
    if switch.forced() is not None:
        raise ValueError(f"{switch.VARIABLE} decides over what is to be tried here; unset it")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    allow_tf32(recipe.precision.allow_tf32)
    if device.type == "cpu":
        keep_freed_memory()


def tune(
    recipe: Recipe,
    device: torch.device,
    *,
    budget_s: float,
    compiles: bool,
    tell: Callable[[str], None],
) -> Tuned:
    """Time the candidates of `recipe` and keep the winner; `tell` is told what comes next.

    Raises:
        ValueError: if there is no such model, or no room for a step.
        OSError: if the file cannot be written; mostly before anything is timed.
        KeyboardInterrupt: if it is interrupted before anything is timed.
    """
    tell("making the model")
    chosen = candidates(make_model(recipe), device, compiles=compiles)
    check_room(recipe, device)
    cache.check_writable()
    contest = Contest(chosen, budget_s=budget_s, device=device, tell=tell)
    contest.run(partial(make_step, recipe, device=device))
    if compiles:
        torch.compiler.reset()  # the next batch is compiled anew, and has as many graphs as this
    gc.collect()
    case = cache.case_of(recipe, device)
    is_kept = not (contest.is_cut and cache.is_whole(case))
    if is_kept:
        cache.write(case, contest.winner.choice, _report(contest))
    return Tuned(case=case, contest=contest, path=case.path, is_kept=is_kept)


def _report(contest: Contest) -> dict[str, object]:
    """How the winner was found: machine, versions, all times."""
    return {
        "machine": {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "host": platform.node(),
            "cores": len(os.sched_getaffinity(0)),
            "load": os.getloadavg(),
            "python": platform.python_version(),
            "timm": importlib.metadata.version("timm"),
        },
        "is_cut": contest.is_cut,
        "candidates": [
            {**asdict(candidate), "choice": asdict(candidate.choice)}
            for candidate in contest.candidates
        ],
    }
