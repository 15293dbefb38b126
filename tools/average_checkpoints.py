# PYTHON_ARGCOMPLETE_OK
"""Average the weights of several checkpoints, which often scores better than each of them.

    python tools/average_checkpoints.py runs/dynamixer_s --output averaged.safetensors
    python tools/average_checkpoints.py runs/dynamixer_s --best 3 --output best3.safetensors
    python tools/average_checkpoints.py a.safetensors b.safetensors --output ab.safetensors

Of a run, all checkpoints that it has kept are averaged, or the K that were evaluated best
(run.keep_checkpoints says how many are kept); each with the same weight. What every other tool
takes as MODEL comes out.
"""

import argparse
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

from pipeline import command_line
from pipeline.errors import DataError
from pipeline.words import counted
from tools.cli import exits
from tools.cli.numbers import positive
from tools.cli.output_files import add_force_option, check_output
from tools.cli.progress import importing


def main(argv: list[str] | None = None) -> int:
    """Average what the arguments name; returns the exit code."""
    return exits.told(partial(_work, _parse(argv)))


def _work(arguments: argparse.Namespace) -> int:
    check_output(arguments.output, suffixes=(".safetensors",), force=arguments.force)
    _check_inputs(arguments)
    _run(arguments)
    return exits.COMPLETE


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="a run's folder, or .safetensors"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help=".safetensors to write"
    )
    parser.add_argument("--best", type=positive, metavar="K", help="of a run: the K best evaluated")
    parser.add_argument("--raw", action="store_true", help="the weights, not their EMA")
    add_force_option(parser)
    return command_line.parse(parser, argv)


def _check_inputs(arguments: argparse.Namespace) -> None:
    runs = [path for path in arguments.sources if path.is_dir()]
    for path in arguments.sources:
        if path.is_dir() and not (path / "checkpoints").is_dir():
            raise DataError(f"{path}: not a run's folder: there are no checkpoints/ in it")
        if not path.is_dir() and path.suffix != ".safetensors":
            raise DataError(f"{path}: expected a run's folder or .safetensors files")
        if not path.exists():
            raise DataError(f"{path}: there is no such file")
    if runs and len(arguments.sources) > 1:
        raise DataError(f"{runs[0]}: give one run, or the files to average, not both")
    if not runs and (arguments.best or arguments.raw):
        raise DataError("--best and --raw have no effect on files; leave them out")


def _run(arguments: argparse.Namespace) -> None:
    with redirect_stdout(sys.stderr):  # libraries speak there, too
        with importing():
            from tools.trained import average

        files = arguments.sources
        if files[0].is_dir():
            files = average.files_of_run(files[0], best=arguments.best, raw=arguments.raw)
        average.write_average(files, arguments.output)
    print(f"{arguments.output}: the mean of {counted(len(files), 'file')}:")
    for file in files:
        print(f"  {file}")


if __name__ == "__main__":
    raise SystemExit(main())
