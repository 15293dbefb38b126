"""Convert a data set of class folders to WebDataset shards.

    python tools/make_shards.py /imagenet        # train/ and val/ -> shards/imagenet/{train,val}/

    python tools/make_shards.py /imagenet --part 3/16    # one of 16 processes, on any machines
    python tools/make_shards.py /imagenet --merge        # when all 16 are done

The source is only read. Interrupted, it goes on where it was when it is started again with the same
arguments. Exit codes: 0 complete; 2 the arguments or the images cannot be used; 73 the output is in
use or holds something else; 74 reading or writing failed, such as a full disk; 75 interrupted: run
the same command again; 1 anything else.
"""

import argparse
import sys
import time
from pathlib import Path

import pipeline
from pipeline.formats.class_folders import class_names, scan_class_folders
from pipeline.formats.conversion import Conversion, UnusableInputError, convert, merge
from pipeline.formats.manifest import software
from pipeline.formats.parts import WHOLE, OutputError, Part, parse_part
from pipeline.formats.plan import PlanConfig
from pipeline.formats.source import DataError
from tools.progress import ConversionProgress

EXIT_BAD_INPUT = 2
EXIT_OUTPUT = 73
EXIT_IO = 74
EXIT_INTERRUPTED = 75

SPLITS = ("train", "val")


def main(argv: list[str] | None = None) -> int:
    """Convert what the arguments name; returns the exit code."""
    arguments = _parse(argv)
    print(f"{software()} ({Path(pipeline.__file__).parent})")
    try:
        return _run(arguments)
    except UnusableInputError as error:
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return _fail(str(error), EXIT_BAD_INPUT)
    except DataError as error:
        return _fail(str(error), EXIT_BAD_INPUT)
    except OutputError as error:
        return _fail(str(error), EXIT_OUTPUT)
    except OSError as error:
        return _fail(f"{error.filename or 'writing'}: {error.strerror}", EXIT_IO)
    except KeyboardInterrupt:
        return _fail("interrupted; run the same command again to go on", EXIT_INTERRUPTED)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder that holds train/ and val/")
    parser.add_argument("--output", type=Path, help="default: shards/NAME, NAME that of the source")
    parser.add_argument(
        "--split", action="append", choices=SPLITS, help="convert only this one; default: both"
    )
    sharing = parser.add_mutually_exclusive_group()
    sharing.add_argument(
        "--part",
        type=_part,
        default=WHOLE,
        metavar="I/N",
        help="write only part I (from 0) of N, to be run N times, at once or in turn",
    )
    sharing.add_argument(
        "--merge", action="store_true", help="complete what was written with --part"
    )
    return parser.parse_args(argv)


def _part(text: str) -> Part:
    try:
        return parse_part(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _run(arguments: argparse.Namespace) -> int:
    source: Path = arguments.source
    splits = arguments.split or SPLITS
    _check_splits(source, splits)
    output: Path = arguments.output or Path("shards") / source.resolve().name
    if output.resolve().is_relative_to(source.resolve()):
        raise OutputError(f"{output}: lies inside the source, which is not to be changed")
    training = source / "train"
    classes = class_names(training if training.is_dir() else source / splits[0])
    for split in splits:
        started = time.monotonic()
        scan = scan_class_folders(source / split, classes)
        conversion = Conversion(scan=scan, folder=output / split, split=split, layout=PlanConfig())
        with ConversionProgress(split, len(scan), int(scan.sizes.sum())) as progress:
            if arguments.merge:
                manifest = merge(conversion)
            else:
                manifest = convert(conversion, progress.advance, arguments.part)
        if manifest is None:
            print(f"{output / split}: part {arguments.part} is written; --merge when all are")
            continue
        print(
            f"{output / split}: {manifest['samples']:,} images of {len(classes):,} classes,"
            f" {manifest['bytes'] / 1e6:,.1f} MB in {len(manifest['shards']):,} shards,"
            f" {time.monotonic() - started:.1f} s"
        )
    return 0


def _check_splits(source: Path, splits: tuple[str, ...]) -> None:
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; expected one that holds train/ and val/")
    for split in splits:
        if not (source / split).is_dir():
            there = sorted(p.name for p in source.iterdir() if p.is_dir())[:5]
            others = [s for s in splits if (source / s).is_dir()]
            remedy = f"; --split {others[0]} converts what is there" if others else ""
            raise DataError(
                f"{source}: has no folder {split}/ (it holds {', '.join(there) or 'no folders'}),"
                f" with one folder for each class in it{remedy}"
            )


if __name__ == "__main__":
    raise SystemExit(main())
