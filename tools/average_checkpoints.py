# PYTHON_ARGCOMPLETE_OK
"""Average the weights of several checkpoints, which often scores better than each of them.

    python tools/average_checkpoints.py runs/dynamixer_s --output averaged.safetensors
    python tools/average_checkpoints.py runs/dynamixer_s --best 3 --output best3.safetensors
    python tools/average_checkpoints.py a.safetensors b.safetensors --output ab.safetensors

Of a run, all checkpoints that it has kept are averaged, or the K that were evaluated best
(run.keep_checkpoints says how many are kept); each with the same weight. What every other tool
takes as MODEL comes out.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

from pipeline import command_line
from pipeline.errors import DataError, OutputError
from pipeline.words import counted
from tools.cli import exits
from tools.cli.numbers import positive
from tools.cli.output_files import add_force_option, check_output
from tools.cli.progress import importing


def main(argv: list[str] | None = None) -> int:
    """Average what the arguments name; returns the exit code."""
    return exits.told(partial(_work, _parse(argv)))


def _work(arguments: argparse.Namespace) -> int:
    _check_inputs(arguments)
    check_output(arguments.output, suffixes=(".safetensors",), force=arguments.force)
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
    """Find mistakes before torch is imported."""
    sources: list[Path] = arguments.sources
    for path in sources:
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder")
        if path.is_dir() and (path / "meta.json").is_file():
            raise DataError(f"{path}: one checkpoint; give the run's folder, or files of weights")
        if path.is_dir() and not (path / "checkpoints").is_dir():
            raise DataError(f"{path}: not a run's folder: there are no checkpoints/ in it")
        if path.is_file() and path.suffix != ".safetensors":
            raise DataError(f"{path}: neither a run's folder nor .safetensors")
    _check_together(sources, arguments)


def _check_together(sources: list[Path], arguments: argparse.Namespace) -> None:
    runs = [path for path in sources if path.is_dir()]
    if runs and len(sources) > 1:
        raise DataError(
            f"{runs[0]}: a run's folder stands alone; to average with others, give files, such as"
            f" {runs[0]}/checkpoints/step_N/model.safetensors"
        )
    if runs:
        return
    if arguments.best or arguments.raw:
        idle = "--best" if arguments.best else "--raw"
        raise DataError(f"{idle}: has no effect on files, only on a run; leave it out")
    if len({path.resolve() for path in sources}) < len(sources):
        raise DataError("a file is given twice, and would count twice; give each once")
    if len(sources) == 1:
        raise DataError(f"{sources[0]}: one file has no mean; give two or more, or a run's folder")
    if arguments.output.resolve() in [path.resolve() for path in sources]:
        raise OutputError(f"{arguments.output}: is one of the inputs; name another output")


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
