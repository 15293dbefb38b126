# PYTHON_ARGCOMPLETE_OK
"""Convert a published checkpoint to a safetensors file that timm loads.

    python tools/convert_checkpoint.py model_best.pth.tar --model dynamixer_s
    python tools/convert_checkpoint.py FILE --model vip_s7 --img-size 256 --output vip.safetensors

After `import models`, timm.create_model("dynamixer_s", checkpoint_path=OUTPUT) loads the output.
Read are files of timm's and of DeiT's training scripts, plain state_dicts and safetensors, in the
layouts of all families. The moving average is taken where there is one.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline import command_line
from pipeline.errors import DataError, OutputError
from tools.cli import exits
from tools.cli.model_options import VARIANT_HELP
from tools.cli.numbers import positive
from tools.cli.output_files import add_force_option, check_output
from tools.cli.progress import importing


def main(argv: Sequence[str] | None = None) -> int:
    """Convert one file; returns the exit code."""
    return exits.told(partial(_work, _parse(argv)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    parser.add_argument("file", type=Path, help="the checkpoint; it is only read")
    parser.add_argument("--model", required=True, metavar="NAME", help=VARIANT_HELP)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: the input with .safetensors"
    )
    parser.add_argument("--raw", action="store_true", help="the weights, not their EMA")
    parser.add_argument(
        "--img-size",
        type=positive,
        nargs="+",
        metavar="PIXELS",
        help="resample to this size, a side or HEIGHT WIDTH; default: what it was trained with",
    )
    add_force_option(parser)
    arguments = command_line.parse(parser, argv)
    if len(arguments.img_size or ()) > 2:
        parser.error(f"--img-size: expected N, or HEIGHT WIDTH, got {arguments.img_size}")
    return arguments


def _check_source(path: Path) -> None:
    if path.is_dir() and any((path / name).exists() for name in ("checkpoints", "meta.json")):
        raise DataError(
            f"{path}: a run's folder, whose weights need no conversion; tools/export_weights.py"
            " writes them for timm"
        )
    if path.is_dir():
        raise DataError(f"{path}: a folder; name the checkpoint's file in it")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")


def _work(arguments: argparse.Namespace) -> int:
    source: Path = arguments.file
    output: Path = arguments.output or source.with_suffix(".safetensors")
    _check_source(source)
    if output.exists() and output.samefile(source):
        raise OutputError(f"{output}: is the input; name another file with --output")
    check_output(output, suffixes=(".safetensors",), force=arguments.force)
    size = None if arguments.img_size is None else (arguments.img_size[0], arguments.img_size[-1])
    # Imported here, because it takes seconds: a mistake in the arguments has been told by now.
    with importing():
        from tools.trained.converted import convert_file

    words = convert_file(source, output, name=arguments.model, size=size, raw=arguments.raw)
    print(f"{output}: {words}")
    return exits.COMPLETE


if __name__ == "__main__":
    raise SystemExit(main())
