# PYTHON_ARGCOMPLETE_OK
"""Train one recipe.

    deepspeed launch.py --config configs/dynamixer_l.yaml
    deepspeed launch.py --config configs/dynamixer_l.yaml batch.per_gpu=64 optim.lr=1e-3
    python launch.py --explain optim.lr

Also runs as `python launch.py` (one process), under torchrun and under srun. Started again with
the same recipe, it goes on where the run was. The run's folder has the exit code in `exit.json`,
too, since torchrun ends with 1 for all of them but 0.
"""

import pipeline.quiet_interrupt

import argparse
import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from pipeline import command_line
from pipeline.exit_codes import BAD_INPUT, COMPLETE, FAILED, IO
from trainer import recipe_keys, yaml_config
from trainer.process import launcher
from trainer.process.allocator import keep_freed_memory
from trainer.process.signals import StopAgreement, StopSignal
from trainer.recipe import Recipe
from trainer.recipe_keys import add_config_option, add_overrides
from trainer.record.exit_file import write_exit


def main(argv: list[str] | None = None) -> int:
    """Train the recipe that the arguments name; returns the exit code."""
    arguments = _parse(argv)
    try:
        if arguments.explain is not None:
            return _print(recipe_keys.explain(arguments.explain) + "\n")
        recipe = yaml_config.load(Recipe, arguments.config, arguments.overrides)
    except ValueError as error:
        if _rank() == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        return BAD_INPUT
    name = recipe.run.name or arguments.config.stem
    recipe = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, name=name))
    if arguments.print:
        return _print(yaml_config.dump(recipe))
    stop = StopSignal(recipe.run.stop_signals)
    if not launcher.kills_ranks():
        return _Process(recipe).run(stop)
    stand_in = launcher.part(recipe.run.stop_signals)
    stop.watch_launcher(stand_in.lives)
    code = _Process(recipe).run(stop)
    stand_in.tell(code)
    return code


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    add_config_option(what, required=False)
    what.add_argument(
        "--explain",
        nargs="*",
        metavar="KEY",
        help="say what keys of a recipe mean, or all of a section, or all there are, and leave",
    )
    parser.add_argument("--print", action="store_true", help="show the resolved recipe and leave")
    # The deepspeed launcher adds it; LOCAL_RANK in the environment is what counts.
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    add_overrides(parser)
    arguments = command_line.parse(parser, argv)
    if arguments.explain is not None and (arguments.print or arguments.overrides):
        idle = "--print" if arguments.print else arguments.overrides[0]
        parser.error(f"{idle} has no effect with --explain, which reads no recipe; leave it out")
    return arguments


class _Process:
    """This rank: turns what ends it into words, an exit code and `exit.json`."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._rank = _rank()

    def run(self, stop: StopSignal) -> int:
        """Join the process group and train."""
        # Threads that spin while they wait for each other take the cores from those that decode
        # images; OpenMP reads this once, when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # Imported here, because numpy takes a moment and torch ten seconds: what can be told
        # before is told before.
        from trainer.process.early_checks import check_names

        try:
            check_names(self._recipe)
            if self._rank == 0 and sys.stderr.isatty():
                print(f"{self._recipe.run.name}: importing torch", file=sys.stderr, flush=True)
            from trainer.process.world import bootstrap

            bootstrap()
        except ValueError as error:
            return self._fail(f"error: {error}", BAD_INPUT)
        self._rank = int(os.environ["RANK"])
        return self._train(stop)

    def _train(self, stop: StopSignal) -> int:
        from pipeline.errors import DataError
        from trainer.job import TrainingError
        from trainer.process.world import is_lost_peer
        from trainer.record.meta import CheckpointError

        try:
            return self._outcome(stop)
        except (CheckpointError, OSError) as error:
            return self._fail(f"error: {error}", IO)
        except TrainingError as error:
            return self._fail(f"error: {error}", FAILED)
        except DataError as error:  # an image of one rank, or a folder that all ranks miss
            return self._fail(f"error: {error}", BAD_INPUT, every_rank=True)
        except ValueError as error:
            return self._fail(f"error: {error}", BAD_INPUT)
        except RuntimeError as error:
            if not is_lost_peer(error):
                raise
            text = "error: another rank ended or cannot be reached; its own message says why."
            text += " The same command goes on"
            return self._fail(text, FAILED, every_rank=True, is_echo=True)

    def _outcome(self, stop: StopSignal) -> int:
        """Train; errors pass."""
        import torch.distributed as dist

        from trainer.assembly.run import train
        from trainer.engine.process_group import init_process_group
        from trainer.job import Outcome
        from trainer.process.world import current, host_group

        stopped = self._recipe.run.stop_exit_code
        device = init_process_group()
        if device.type == "cpu":
            keep_freed_memory()
        if StopAgreement(stop, host_group()).agree():
            return self._fail("told to stop before the first step; nothing is lost", stopped)
        outcome = train(self._recipe, current(device), stop, self._give_up)
        code = stopped if outcome is Outcome.STOPPED else COMPLETE
        if self._rank == 0:
            self._write_exit(outcome.name.lower().replace("_", " "), code)
        dist.destroy_process_group()
        return code

    def _fail(
        self, text: str, code: int, *, every_rank: bool = False, is_echo: bool = False
    ) -> int:
        """Say what is wrong and return `code`; where all ranks find the same, rank 0 speaks."""
        if self._rank == 0 or every_rank:
            where = f"rank {self._rank}: " if self._rank else ""
            print(f"{where}{text}", file=sys.stderr, flush=True)
            self._write_exit(text, code, is_echo=is_echo)
        return code

    def _give_up(self, verdict: str) -> NoReturn:
        """End at once, without the main thread, which may hang."""
        if verdict:
            text = f"error: {verdict}. All ranks end; the same command goes on from what was saved"
            self._fail(text, FAILED, every_rank=self._rank <= 1)
        os._exit(FAILED)

    def _write_exit(self, text: str, code: int, *, is_echo: bool = False) -> None:
        folder = Path(self._recipe.run.root, self._recipe.run.name)
        with contextlib.suppress(OSError):  # the exit code and the message stand without it
            write_exit(folder, code=code, text=text, rank=self._rank, is_echo=is_echo)


def _print(text: str) -> int:
    """Print what was asked for."""

    def work() -> int:
        print(text, end="")
        return COMPLETE

    return command_line.to_the_end(work)


def _rank() -> int:
    """This process's number, as far as its launcher says it."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def _leave(code: int) -> NoReturn:
    """End the process, if it failed without the farewells that need the other ranks.

    With nccl, they wait for peers that wait in a collective, for ten minutes.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if code in (FAILED, BAD_INPUT, IO):
        os._exit(code)
    sys.exit(code)


def _leave_unexpectedly(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """`sys.excepthook`: the traceback, and the end."""
    pipeline.quiet_interrupt.tell(kind, error, trace)
    _leave(FAILED)


if __name__ == "__main__":
    sys.excepthook = _leave_unexpectedly
    _leave(main())
