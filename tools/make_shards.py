# PYTHON_ARGCOMPLETE_OK
"""Convert a data set to WebDataset shards, or to FFCV files (docs/formats.md: from which layouts).

    python tools/make_shards.py /imagenet        # train/ and val/ -> shards/imagenet/{train,val}/

    python tools/make_shards.py s3://bucket/imagenet --output s3://bucket/shards/imagenet
    python tools/make_shards.py /imagenet --part 3/16    # one of 16 processes, on any machines
    python tools/make_shards.py /imagenet --merge        # when all 16 are done

The source is only read. Interrupted, it goes on where it was when it is started again with the same
arguments.
"""

import pipeline.quiet_interrupt

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import pipeline
from pipeline import command_line
from pipeline.errors import DataError, OutputError, UnusableInputError
from pipeline.prepare.conversion.conversion import Conversion
from pipeline.prepare.conversion.manifest import Manifest, printable, software
from pipeline.prepare.conversion.remote_output import staged, staged_for_looking
from pipeline.prepare.conversion.run import check_output, convert, find_finished, merge
from pipeline.prepare.layouts.find import SPLITS
from pipeline.storage.remote import RemoteFolder
from pipeline.words import counted
from tools.cli import exits
from tools.cli.output_files import add_json_option, check_output_folder
from tools.cli.output_options import (
    add_shard_options,
    add_target_options,
    add_workers_option,
)
from tools.cli.part_options import add_part_options
from tools.cli.progress import ImageProgress, busy, interruptible
from tools.cli.source_options import add_source_options, default_name, folder_or_url, open_layout
from tools.cli.targets import new_conversion, new_runner, new_target

_NAMED_CLASSES = 5


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """What became of one split; the `--json` report has the same names."""

    split: str
    folder: str
    state: str
    """`complete`, `already complete`, `part written` or `planned` (a dry run)."""
    classes: int
    images: int
    bytes: int
    shards: int
    seconds: float
    left_out: int = 0
    empty_classes: list[str] = field(default_factory=list)
    """Classes of the split without an image."""
    unusual: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)


@dataclass
class _Outcome:
    """What the run has found and done so far, for people and for `--json`."""

    splits: list[SplitResult] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    error: str = ""


def main(argv: list[str] | None = None) -> int:
    """Convert what the arguments name; returns the exit code."""
    return command_line.to_the_end(partial(_told, _parse(argv)))


def _told(arguments: argparse.Namespace) -> int:
    console = sys.stderr if arguments.json else sys.stdout
    print(f"{software()} ({Path(pipeline.__file__).parent})", file=console)
    outcome = _Outcome()
    code = _guarded(arguments, outcome)
    for result in outcome.splits:
        print(_in_words(result), file=console)
    for problem in outcome.problems:
        print("  {place}: {kind}: {detail}".format(**problem), file=sys.stderr)
    if outcome.error:
        print(f"error: {outcome.error}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"software": software(), "exit_code": code, **asdict(outcome)}))
    return code


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    add_source_options(parser)
    parser.add_argument(
        "--output",
        type=folder_or_url,
        metavar="FOLDER",
        help="folder, or s3:// or gs:// URL; default: shards/NAME, NAME that of the source",
    )
    parser.add_argument("--split", action="append", choices=SPLITS, help="only this; default: both")
    add_workers_option(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would be written, and how large"
    )
    add_json_option(parser)
    add_part_options(parser)
    add_target_options(parser)
    add_shard_options(parser)
    return command_line.parse(parser, argv)


def _guarded(arguments: argparse.Namespace, outcome: _Outcome) -> int:
    """Run, and turn what goes wrong into words and an exit code."""
    try:
        with interruptible():
            return _run(arguments, outcome)
    except exits.TOLD as error:
        code, outcome.error = exits.explain(error, go_on="run the same command again to go on")
        return code


def _run(arguments: argparse.Namespace, outcome: _Outcome) -> int:
    if arguments.executor == "ray" and isinstance(arguments.source, Path):
        arguments.source = arguments.source.absolute()  # nodes have other working directories
    source: Path | RemoteFolder = arguments.source
    splits: Sequence[str] = arguments.split or SPLITS
    output: Path | RemoteFolder = arguments.output or Path("shards") / default_name(source)
    target = new_target(arguments, output)
    layout = open_layout(arguments, splits)
    _check_output(source, output, splits)
    unusable = 0
    for split in splits:
        with busy(f"{split}: listing the images of {layout.name}"):
            scan = layout.splits[split]()
        conversion = new_conversion(
            target, scan=scan, folder=output / split, split=split, part=arguments.part
        )
        try:
            outcome.splits.append(_convert_split(conversion, arguments))
        except UnusableInputError as error:
            unusable += len(error.problems)
            for problem in error.problems:
                place = layout.place(split, problem.where)
                told = {**problem._asdict(), "place": place}
                outcome.problems.append(
                    {"split": split, **{name: printable(text) for name, text in told.items()}}
                )
    if unusable:
        raise DataError(
            f"{counted(unusable, 'file or folder', 'files or folders')} cannot be used. Mend or"
            " remove them, or run again with --on-error skip (or quarantine), which goes on with"
            " what is done"
        )
    return 0


def _check_output(
    source: Path | RemoteFolder, output: Path | RemoteFolder, splits: Sequence[str]
) -> None:
    if isinstance(output, RemoteFolder) and not output.is_store:
        raise OutputError(f"{output.url}: https can be read, not written; use s3:// or gs://")
    if isinstance(source, Path) and isinstance(output, Path):
        inside = output.resolve().is_relative_to(source.resolve())
    else:
        inside = f"{output}/".startswith(f"{source}/")
    if inside:
        raise OutputError(
            f"{output}: lies inside the source, which is not to be changed; name another --output"
        )
    if isinstance(output, Path):
        for split in splits:
            check_output_folder(output / split)


def _convert_split(conversion: Conversion, arguments: argparse.Namespace) -> SplitResult:
    scan = conversion.scan
    if arguments.dry_run:
        return _planned(conversion)
    run = new_runner(arguments, conversion)
    place = nullcontext() if conversion.remote is None else staged(conversion, arguments.part)
    with place, ImageProgress(conversion.split, len(scan), int(scan.sizes.sum())) as progress:
        was_complete = find_finished(conversion) is not None
        if arguments.merge:
            manifest = merge(conversion)
        else:
            manifest = convert(
                conversion, progress.advance, arguments.part, run, resumed=progress.resume
            )
    if manifest is None:
        return _result(conversion, "part written", progress.images, seconds=progress.seconds)
    state = "already complete" if was_complete else "complete"
    return _completed(conversion, manifest, state, progress.seconds)


def _planned(conversion: Conversion) -> SplitResult:
    """Say what a run would do; refusals, and problems in names and folders, are as in one."""
    scan = conversion.scan
    with nullcontext() if conversion.remote is None else staged_for_looking(conversion):
        check_output(conversion)
    if scan.problems and conversion.writing.on_error == "fail":
        raise UnusableInputError(list(scan.problems))
    return _result(
        conversion,
        "planned",
        len(scan),
        size=conversion.planned_bytes(),
        left_out=len(scan.problems),
    )


def _completed(
    conversion: Conversion, manifest: Manifest, state: str, seconds: float
) -> SplitResult:
    return _result(
        conversion,
        state,
        manifest["samples"],
        size=manifest["bytes"],
        seconds=seconds,
        left_out=len(manifest["left_out"]),
        empty_classes=[name for name, count in manifest["class_counts"].items() if not count],
        unusual={f"{u['what']}, {u['action']}": u["images"] for u in manifest["unusual"]},
    )


def _result(
    conversion: Conversion,
    state: str,
    images: int,
    *,
    size: int = 0,
    seconds: float = 0.0,
    left_out: int = 0,
    empty_classes: Sequence[str] = (),
    unusual: dict[str, int] | None = None,
) -> SplitResult:
    return SplitResult(
        split=conversion.split,
        folder=conversion.place,
        state=state,
        classes=len(conversion.scan.classes),
        images=images,
        bytes=size,
        shards=conversion.plan.num_shards,
        seconds=round(seconds, 3),
        left_out=left_out,
        empty_classes=list(empty_classes),
        unusual=unusual or {},
        ignored=conversion.scan.ignored,
    )


def _in_words(result: SplitResult) -> str:
    lines = [
        f"{result.folder}: {result.state}: {counted(result.images, 'image')} of"
        f" {counted(result.classes, 'class', 'classes')}, {result.bytes / 1e6:,.1f} MB in"
        f" {counted(result.shards, 'shard')}, {result.seconds:,.1f} s"
    ]
    if result.left_out:
        lines.append(
            f"  {result.left_out} could not be used and"
            f" {'is' if result.left_out == 1 else 'are'} left out: see report.tsv"
        )
    if result.empty_classes:
        named = ", ".join(result.empty_classes[:_NAMED_CLASSES])
        more = len(result.empty_classes) - _NAMED_CLASSES
        classes = counted(len(result.empty_classes), "class", "classes")
        lines.append(
            f"  without an image, but still {classes} of the model: {named}"
            f"{f' and {more} more' if more > 0 else ''};"
            " --drop-empty-classes leaves out those without a training file, and numbers anew"
        )
    lines += [f"  {counted(count, 'image')}: {what}" for what, count in result.unusual.items()]
    if result.ignored:
        names = ", ".join(f"{count} {name}" for name, count in result.ignored.items())
        lines.append(f"  files that are no images by name, ignored: {names}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
