# PYTHON_ARGCOMPLETE_OK
"""Measure a model on images: every image once, on one GPU, many, or the CPU.

    python tools/validate.py runs/dynamixer_s                       # on the run's own data
    python tools/validate.py runs/dynamixer_s --data /imagenet-a    # its val/, or itself
    python tools/validate.py vip_s7.pth.tar --model vip_s7 --data /imagenet --per-class classes.csv
    torchrun --nproc-per-node 8 tools/validate.py runs/dynamixer_s --data shards/imagenet --amp bf16

Data is what training reads: class folders, shards, FFCV files, URLs of shards. Classes are matched
by their names; where the data has fewer than the model, these alone compete, as is the custom for
ImageNet-A and -R (--all-classes: all compete).
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import command_line
from pipeline.errors import DataError
from pipeline.words import counted
from tools.cli import exits
from tools.cli.computing_options import add_computing_options, add_data_computing_options
from tools.cli.model_options import ModelChoice, add_model_options, model_choice
from tools.cli.output_files import add_force_option, add_json_option, check_output
from tools.cli.progress import importing

if TYPE_CHECKING:  # torch takes seconds to import, and mistakes are told before
    from pipeline.config import DataConfig
    from tools.trained.load import TrainedModel
    from tools.trained.measure import Measured

_OUTPUTS = {
    "per_class": (".csv",),
    "confusion": (".csv",),
    "calibration": (".png", ".svg", ".pdf"),
    "predictions": (".csv", ".parquet"),
}
_FEW_CLASSES = 10
"""With fewer, top-5 says little and is left out of what people read."""


def main(argv: list[str] | None = None) -> int:
    """Measure what the arguments name; returns the exit code."""
    return exits.told(partial(_work, _parse(argv)))


def _work(arguments: argparse.Namespace) -> int:
    # --help waits for nothing that reads recipes.
    from tools.cli.data_choice import data_choice

    choice = model_choice(arguments)
    data, where = data_choice(choice, arguments.data, arguments.split)
    _check_inputs(arguments)
    _check_outputs(arguments)
    _run(choice, data, where, arguments)
    return exits.COMPLETE


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    add_model_options(parser)
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="FOLDER", help="default: the data of the run")
    data.add_argument("--split", metavar="NAME", help="folder in it; default: val")
    data.add_argument(
        "--crop-pct", type=float, metavar="SHARE", help="share of the resized image that is used"
    )
    data.add_argument(
        "--crop-mode",
        choices=("center", "squash", "border"),
        help="short side, both or long side resized; default: the model's",
    )
    data.add_argument("--class-map", type=Path, metavar="CSV", help="wnid,index: name and output")
    data.add_argument("--all-classes", action="store_true", help="all of the model's compete")
    data.add_argument("--real-labels", type=Path, metavar="JSON", help="ImageNet ReaL's real.json")
    work = parser.add_argument_group("computing")
    add_computing_options(work, batch_size=64)
    add_data_computing_options(work)
    work.add_argument("--tta", choices=("flip",), help="average with the mirror image")
    output = parser.add_argument_group("output")
    output.add_argument("--results-file", type=Path, metavar="CSV", help="a line in timm's columns")
    output.add_argument("--per-class", type=Path, metavar="CSV", help="accuracy of each class")
    output.add_argument("--confusion", type=Path, metavar="CSV", help="and a picture, .png")
    output.add_argument("--calibration", type=Path, metavar="PNG", help="reliability picture")
    output.add_argument(
        "--predictions", type=Path, metavar="FILE", help="top-5 of each image; .csv or .parquet"
    )
    add_json_option(output)
    add_force_option(output)
    return command_line.parse(parser, argv)


def _check_outputs(arguments: argparse.Namespace) -> None:
    for name, suffixes in _OUTPUTS.items():
        if path := getattr(arguments, name):
            option = f"--{name.replace('_', '-')}"
            check_output(path, suffixes=suffixes, force=arguments.force, option=option)
    if arguments.confusion:
        picture = arguments.confusion.with_suffix(".png")
        check_output(picture, suffixes=(".png",), force=arguments.force, option="--confusion")
    if arguments.results_file:  # lines are added to it
        file = arguments.results_file
        check_output(file, suffixes=(".csv",), force=True, option="--results-file")


def _check_inputs(arguments: argparse.Namespace) -> None:
    if arguments.crop_pct is not None and not 0 < arguments.crop_pct <= 1:
        raise DataError(f"--crop-pct: must be in (0, 1], got {arguments.crop_pct}")
    for name in ("class_map", "real_labels"):
        path = getattr(arguments, name)
        if path is not None and not path.is_file():
            raise DataError(f"--{name.replace('_', '-')}: {path}: there is no such file")


def _run(
    choice: ModelChoice, data: "DataConfig", where: str, arguments: argparse.Namespace
) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in launch.py
    with redirect_stdout(sys.stderr):  # libraries speak there, too
        with importing():
            from tools.trained import measure

        result = measure.measure(choice, data, where, arguments)
    if result is None:  # another rank speaks
        return
    model, measured = result
    console = sys.stderr if arguments.json else sys.stdout
    print("\n".join(_in_words(model, measured)), file=console)
    for line in measure.write_reports(model, measured, arguments):
        print(line, file=console)
    if arguments.json:
        print(json.dumps(measure.as_json(model, measured)))


def _in_words(model: "TrainedModel", measured: "Measured") -> Sequence[str]:
    scores, spec, classes = measured.scores, measured.spec, measured.classes
    kinds = {"ema": ", EMA weights", "raw": ", weights", "": ""}
    competing = f"; {len(classes.chosen_among):,} of {classes.num_outputs:,} classes compete"
    lines = [
        f"{model.origin}{kinds[model.kind]}: {model.description.name},"
        f" {model.num_parameters:,} parameters",
        f"{measured.data}: {counted(scores.count, 'image')} of"
        f" {counted(len(classes.names), 'class', 'classes')},"
        f" {spec.size} px, crop {spec.crop_pct:g}, {spec.crop_mode}, {spec.interpolation}"
        f"{competing if classes.is_restricted else ''}",
        f"top-1 {scores.top1:.2f} % ({scores.top1_count:,} of {scores.count:,}),"
        f" standard deviation {scores.top1_deviation:.2f}",
    ]
    if classes.num_outputs >= _FEW_CLASSES:
        lines.append(f"top-5 {scores.top5:.2f} % ({scores.top5_count:,})")
    lines.append(f"loss {scores.loss:.4f}, calibration error {scores.ece:.2f} %")
    if real := measured.real:
        lines.append(
            f"ReaL top-1 {real.top1:.2f} % of {counted(real.count, 'image')},"
            f" top-5 {real.top5:.2f} %"
        )
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
