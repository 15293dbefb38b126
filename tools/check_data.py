# PYTHON_ARGCOMPLETE_OK
"""Check shards, or a folder of images, and make damaged shards again from their source.

    python tools/check_data.py shards/imagenet                     # every shard's SHA-256
    python tools/check_data.py shards/imagenet --deep              # and decode every image
    python tools/check_data.py shards/imagenet --repair /imagenet  # make damaged shards again
    python tools/check_data.py /imagenet/train                     # decode every image of a folder

Each damaged file and sample is named. What was repaired is checked again.
Damage that is left gives exit code 2.
"""

import pipeline.quiet_interrupt

import argparse
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pipeline
from pipeline import command_line
from pipeline.errors import DataError
from pipeline.formats.class_folders import scan_class_folders
from pipeline.formats.scan import Scan
from pipeline.formats.shard_folder import MANIFEST_NAME, state_of_folder
from pipeline.prepare.checking.check_images import check_images, folder_jobs
from pipeline.prepare.checking.mend import FolderResult, ShardCheck, as_dicts
from pipeline.prepare.conversion.manifest import read_manifest, software
from pipeline.prepare.conversion.workers import map_in_processes
from pipeline.prepare.layouts.find import SPLITS
from pipeline.prepare.layouts.unknown import data_sets_in
from pipeline.storage.remote import RemoteFolder
from pipeline.words import counted
from tools.cli import exits
from tools.cli.output_files import add_json_option
from tools.cli.output_options import add_workers_option
from tools.cli.progress import ImageProgress, interruptible
from tools.cli.source_options import add_reading_options, folder_or_url, open_layout
from tools.cli.targets import available_cores

_WORTH_PROCESSES_BYTES = 500_000_000
"""Less is checked before processes have started."""


def main(argv: list[str] | None = None) -> int:
    """Check what the arguments name; returns the exit code."""
    return command_line.to_the_end(partial(_told, _parse(argv)))


def _told(arguments: argparse.Namespace) -> int:
    console = sys.stderr if arguments.json else sys.stdout
    print(f"{software()} ({Path(pipeline.__file__).parent})", file=console)
    results: list[FolderResult] = []
    error, code = "", 0
    try:
        with interruptible():
            folders = _folders(arguments.path)
            for name in _unread(arguments.path, folders):
                print(
                    f"{arguments.path / name}: not read: it is neither train nor val", file=console
                )
            for folder in folders:
                results.append(_check(folder, arguments))
                print(_in_words(results[-1]), file=console)
        code = 0 if all(result.is_sound for result in results) else exits.BAD_INPUT
    except exits.TOLD as failure:
        code, error = exits.explain(failure, go_on="run the same command again")
        code = exits.BAD_INPUT if code == exits.OUTPUT else code
    if error:
        print(f"error: {error}", file=sys.stderr)
    if arguments.json:
        folders = [asdict(result) for result in results]
        report = {"software": software(), "exit_code": code, "folders": folders, "error": error}
        print(json.dumps(report))
    return code


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.new_parser(__doc__)
    parser.add_argument(
        "path", type=folder_or_url, help="folder of shards or images, or of train/ and val/"
    )
    parser.add_argument("--deep", action="store_true", help="decode every image of the shards too")
    parser.add_argument(
        "--repair",
        dest="source",
        type=folder_or_url,
        metavar="SOURCE",
        help="make damaged shards again from this source, as it was given to make_shards",
    )
    add_reading_options(parser)
    add_workers_option(parser)
    add_json_option(parser)
    arguments = command_line.parse(parser, argv)
    reading = (arguments.list, arguments.classes, arguments.val_folder, arguments.val_fraction)
    if arguments.source is None and (any(reading) or arguments.drop_empty_classes):
        parser.error("how a source is read has no effect without --repair SOURCE")
    return arguments


def _folders(path: Path | RemoteFolder) -> list[Path]:
    if isinstance(path, RemoteFolder):
        raise DataError(
            f"{path}: check_data reads local folders; copy it to this machine, and check the copy"
        )
    if not path.is_dir():
        what = "a file; name the folder that it lies in" if path.exists() else "no such folder"
        raise DataError(f"{path}: {what}")
    return [path / split for split in SPLITS if (path / split).is_dir()] or [path]


def _unread(path: Path, folders: list[Path]) -> list[str]:
    """Names of what lies in `path` beside the splits that are checked."""
    if folders == [path]:
        return []
    known = {folder.name for folder in folders}
    return sorted(p.name for p in path.iterdir() if p.name not in known and p.name[0] != ".")


def _check(folder: Path, arguments: argparse.Namespace) -> FolderResult:
    manifest = read_manifest(folder)
    if manifest is None:
        _refuse_unfinished(folder)
        _refuse_other_layouts(folder)
        if arguments.source:
            raise DataError(f"{folder}: --repair is for shards; this is a folder of images")
        return _check_images(folder, arguments)

    def open_source(split: str) -> Scan:
        return open_layout(arguments, [split]).splits[split]()

    check = ShardCheck(
        folder=folder,
        manifest=manifest,
        deep=arguments.deep,
        workers=_num_workers(arguments, manifest["bytes"]),
        show_progress=ImageProgress,
    )
    return check.run(open_source if arguments.source else None)


def _refuse_unfinished(folder: Path) -> None:
    """Refuse a folder of shards that has no manifest."""
    state = state_of_folder(folder)
    if state.is_unfinished:
        raise DataError(
            f"{folder}: its conversion is not finished; run tools/make_shards.py again with the"
            " same arguments, and it goes on (if it is run in parts: all of them, then --merge)"
        )
    if state.has_index:
        raise DataError(
            f"{folder}: {MANIFEST_NAME} is missing, against which all else is checked; restore it"
            " from a copy; if there is none, remove the folder and run tools/make_shards.py again"
        )
    if state.shards:
        raise DataError(
            f"{folder}: holds shards but no {MANIFEST_NAME}: another program made them, which"
            " check_data knows nothing of; tools/make_shards.py converts .beton files"
        )


def _refuse_other_layouts(folder: Path) -> None:
    """Refuse what is no folder of class folders, where its parts would be taken for classes."""
    if inside := data_sets_in(folder):
        raise DataError(
            f"{folder}: holds {counted(len(inside), 'data set')}, and one is checked at a time:"
            f" tools/check_data.py {folder / inside[0]}"
        )
    patterns = ("*.parquet", "data/*.parquet", "*.tar", "*.tar.gz")
    if other := next((path for pattern in patterns for path in folder.glob(pattern)), None):
        raise DataError(
            f"{folder}: holds {other.name}, and check_data reads shards of make_shards and class"
            " folders; tools/make_shards.py --verify decodes every image of other layouts as it"
            " converts them"
        )


def _check_images(folder: Path, arguments: argparse.Namespace) -> FolderResult:
    scan = scan_class_folders(folder)
    size = int(scan.sizes.sum())
    problems = list(scan.problems)
    # Decoding is a hundred times as much work as hashing.
    workers = _num_workers(arguments, 100 * size)
    with ImageProgress(str(folder), len(scan), size) as progress:
        jobs = folder_jobs(scan)
        for found in map_in_processes(check_images, jobs, progress.advance, workers=workers):
            problems += found
    found = as_dicts(problems)
    return FolderResult(str(folder), len(scan), 0, problems=found, remaining=found)


def _num_workers(arguments: argparse.Namespace, work_bytes: int) -> int:
    if not arguments.workers and work_bytes < _WORTH_PROCESSES_BYTES:
        return 1
    return arguments.workers or available_cores()


def _in_words(result: FolderResult) -> str:
    shards = f" in {counted(result.shards, 'shard')}" if result.shards else ""
    found = counted(len(result.problems), "problem") if result.problems else "sound"
    lines = [f"{result.folder}: {counted(result.images, 'image')}{shards}: {found}"]
    lines += ["  {where}: {kind}: {detail}".format(**problem) for problem in result.problems]
    if result.repaired:
        lines.append(f"  made again: {', '.join(result.repaired)}")
        left = counted(len(result.remaining), "problem") if result.remaining else "no problems"
        lines.append(f"  checked again: {left} left")
        lines += ["    {where}: {kind}".format(**problem) for problem in result.remaining]
    if result.came_damaged:
        lines.append(
            f"  {result.came_damaged} of these are of images that came damaged: their shards are"
            " byte for byte what was written, so only the source can be mended. Then remove this"
            " folder, and run tools/make_shards.py again"
        )
    lines += [f"  cannot be repaired: {error}" for error in result.errors]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
