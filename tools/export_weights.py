# PYTHON_ARGCOMPLETE_OK
"""Write a trained model for other programs: one file, or a folder as the Hugging Face hub has them.

    python tools/export_weights.py runs/quickstart --output digits.safetensors
    python tools/export_weights.py runs/quickstart --output digits --format hub
    python tools/export_weights.py runs/quickstart --output digits.onnx --format onnx

    timm      .safetensors, for timm.create_model(NAME, num_classes=N, checkpoint_path=FILE)
    hub       a folder: config.json, model.safetensors, and README.md, a card made from the run;
              timm.create_model("local-dir:FOLDER", pretrained=True) loads it
    onnx      .onnx, of any batch size
    torch     .pt2, for torch.export.load

The whole line of Python that loads it is printed. Class names, input size, mean, std and crop go
along. Each is loaded again and compared before it gets its name.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

from pipeline import command_line
from pipeline.errors import DataError
from tools.cli import exits
from tools.cli.model_options import ModelChoice, add_model_options, model_choice
from tools.cli.output_files import (
    add_force_option,
    check_output,
    check_output_folder,
    refuse_existing,
)
from tools.cli.progress import importing

SUFFIXES = {"timm": ".safetensors", "onnx": ".onnx", "torch": ".pt2", "hub": ""}


def main(argv: list[str] | None = None) -> int:
    """Write what the arguments name; returns the exit code."""
    return exits.told(partial(_work, _parse(argv)))


def _work(arguments: argparse.Namespace) -> int:
    choice = model_choice(arguments)
    _check_output(arguments)
    _run(choice, arguments)
    return exits.COMPLETE


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    add_model_options(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="PLACE", help="file or folder to write"
    )
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="timm", help="default: timm")
    add_force_option(parser)
    return command_line.parse(parser, argv)


def _check_output(arguments: argparse.Namespace) -> None:
    """Refuse names that lie, and what would be lost, before torch is imported."""
    output: Path = arguments.output
    if any((folder / "meta.json").exists() for folder in (output, output.parent)):
        raise DataError(f"{output}: is part of a run's checkpoint; name another place")
    if arguments.format != "hub":
        fitting = next((name for name, s in SUFFIXES.items() if s and s == output.suffix), "")
        if fitting not in ("", arguments.format):
            raise DataError(
                f"{output}: --format {arguments.format} writes {SUFFIXES[arguments.format]}; add"
                f" --format {fitting}, or name another file"
            )
        check_output(output, suffixes=(SUFFIXES[arguments.format],), force=arguments.force)
        return
    if output.suffix in SUFFIXES.values() and output.suffix:
        raise DataError(f"{output}: --format hub writes a folder; leave the suffix out")
    check_output_folder(output)
    if not output.absolute().parent.is_dir():
        raise DataError(f"{output.parent}: no such folder; make it, or name another --output")
    refuse_existing(output, force=arguments.force)


def _run(choice: ModelChoice, arguments: argparse.Namespace) -> None:
    with redirect_stdout(sys.stderr):  # libraries speak there, too
        with importing():
            from tools.trained.export import EXPORTS
            from tools.trained.load import load
            from tools.trained.usage import loading_code

        model = load(choice)
        EXPORTS[arguments.format](model, arguments.output)
    height, width = model.description.input.size
    print(
        f"{arguments.output}: {model.description.name}, {model.num_parameters:,} parameters,"
        f" {len(model.description.classes) or 'unnamed'} classes, {height}x{width} pixels; from"
        f" {model.origin}"
    )
    print(f"load it with:\n    {loading_code(model, arguments.output, arguments.format)}")


if __name__ == "__main__":
    raise SystemExit(main())
