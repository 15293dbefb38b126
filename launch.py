"""Train one recipe.

    deepspeed launch.py --config configs/dynamixer_l.yaml [key.path=value ...]

Also runs as `python launch.py` (one process), under torchrun and under srun. Started again with
the same recipe, it goes on where the run was. Exit codes: 0 the run is complete; 2 the recipe or
the data cannot be used; 74 a file of the run could not be written or read; 75 told to stop, and
saved: run the same command again; 1 anything else.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import NoReturn

from trainer import recipe_keys, yaml_config
from trainer.process.allocator import keep_freed_memory
from trainer.process.signals import StopAgreement, StopSignal
from trainer.recipe import Recipe

EXIT_COMPLETE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_IO = 74
EXIT_STOPPED = 75


def main(argv: list[str] | None = None) -> int:
    """Train the recipe that the arguments name; returns the exit code."""
    arguments = _parse(argv)
    try:
        if arguments.explain is not None:
            print(recipe_keys.explain(arguments.explain))
            return 0
        recipe = yaml_config.load(Recipe, arguments.config, arguments.overrides)
    except ValueError as error:
        return _fail(f"error: {error}", EXIT_BAD_INPUT)
    name = recipe.run.name or arguments.config.stem
    recipe = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, name=name))
    if arguments.print:
        print(yaml_config.dump(recipe), end="")
        return 0
    return _run(recipe, StopSignal())


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, help="recipe, a YAML file")
    what.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="KEY",
        help="say what a key of a recipe means, or those of a section, or all, and leave",
    )
    parser.add_argument("--print", action="store_true", help="show the resolved recipe and leave")
    # The deepspeed launcher adds it; LOCAL_RANK in the environment is what counts.
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    return parser.parse_args(argv)


def _fail(text: str, code: int, *, every_rank: bool = False) -> int:
    """Say what is wrong and return `code`; where all ranks find the same, rank 0 speaks."""
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    if rank == 0 or every_rank:
        where = f"rank {rank}: " if rank else ""
        print(f"{where}{text}", file=sys.stderr, flush=True)
    return code


def _run(recipe: Recipe, stop: StopSignal) -> int:
    """Join the process group, train, and turn what goes wrong into words and an exit code."""
    # Threads that spin while they wait for each other take the cores from those that decode
    # images; OpenMP reads this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Imported here, because it takes ten seconds: a mistake in the recipe has been told by now.
    from trainer.process.world import bootstrap, current, host_group, is_lost_peer

    bootstrap()

    import torch.distributed as dist

    from pipeline.errors import DataError
    from trainer.assembly import train
    from trainer.engine import init_process_group
    from trainer.job import Outcome, TrainingError
    from trainer.record.meta import CheckpointError

    try:
        device = init_process_group()
        if device.type == "cpu":
            keep_freed_memory()
        if StopAgreement(stop, host_group()).agree():
            return _fail("told to stop before the first step; nothing is lost", EXIT_STOPPED)
        outcome = train(recipe, current(device), stop)
        dist.destroy_process_group()
        return EXIT_STOPPED if outcome is Outcome.STOPPED else EXIT_COMPLETE
    except (CheckpointError, OSError) as error:
        return _fail(f"error: {error}", EXIT_IO)
    except TrainingError as error:
        return _fail(f"error: {error}", EXIT_FAILED)
    except DataError as error:  # an image of one rank, or a folder that all ranks miss
        return _fail(f"error: {error}", EXIT_BAD_INPUT, every_rank=True)
    except ValueError as error:
        return _fail(f"error: {error}", EXIT_BAD_INPUT)
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        text = "error: another rank ended or cannot be reached; its own message says why."
        return _fail(f"{text} The same command goes on", EXIT_FAILED, every_rank=True)


def _leave(code: int) -> NoReturn:
    """End the process, if it failed without the farewells that need the other ranks.

    With nccl, they wait for peers that wait in a collective, for ten minutes.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if code not in (EXIT_COMPLETE, EXIT_STOPPED):
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _leave(main())
