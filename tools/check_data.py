"""Check shards, or a folder of images, and make damaged shards again from their source.

    python tools/check_data.py shards/imagenet                     # every shard's SHA-256
    python tools/check_data.py shards/imagenet --deep              # and decode every image
    python tools/check_data.py shards/imagenet --repair /imagenet  # make damaged shards again
    python tools/check_data.py /imagenet/train                     # decode every image of a folder

Each damaged file and sample is named. Exit codes: 0 all is sound, or was repaired; 2 damage was
found, or the arguments cannot be used; 74 reading or writing failed; 75 interrupted; 1 anything
else.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pipeline
from pipeline.formats.check import check_index, check_jobs, check_shard
from pipeline.formats.class_folders import scan_class_folders
from pipeline.formats.folder_check import check_images, folder_jobs
from pipeline.formats.layouts import find_layout
from pipeline.formats.locks import OutputError
from pipeline.formats.manifest import Manifest, printable, read_manifest, software
from pipeline.formats.reindex import rebuild_index
from pipeline.formats.repair import repair_shards
from pipeline.formats.scan import Problem
from pipeline.formats.source import DataError
from pipeline.formats.workers import WorkerError, map_in_processes
from tools.progress import ImageProgress
from tools.shard_options import available_cores

EXIT_FAILED = 1
EXIT_DAMAGED = 2
EXIT_IO = 74
EXIT_INTERRUPTED = 75

SPLITS = ("train", "val")
_WORTH_PROCESSES_BYTES = 500_000_000
"""Less is checked before processes have started."""


@dataclass
class FolderResult:
    """What was found in one folder; the `--json` report has the same names."""

    folder: str
    images: int
    shards: int
    problems: list[dict[str, str]] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged, any more."""
        return not self.error and (not self.problems or bool(self.repaired))


def main(argv: list[str] | None = None) -> int:
    """Check what the arguments name; returns the exit code."""
    arguments = _parse(argv)
    console = sys.stderr if arguments.json else sys.stdout
    print(f"{software()} ({Path(pipeline.__file__).parent})", file=console)
    results: list[FolderResult] = []
    error, code = "", 0
    try:
        for folder in _folders(arguments.path):
            results.append(_check(folder, arguments))
            print(_in_words(results[-1]), file=console)
        code = 0 if all(result.is_sound for result in results) else EXIT_DAMAGED
    except (DataError, OutputError) as failure:
        error, code = str(failure), EXIT_DAMAGED
    except WorkerError as failure:
        error, code = str(failure), EXIT_FAILED
    except OSError as failure:
        error, code = str(failure), EXIT_IO
    except KeyboardInterrupt:
        error, code = "interrupted", EXIT_INTERRUPTED
    if error:
        print(f"error: {error}", file=sys.stderr)
    if arguments.json:
        folders = [asdict(result) for result in results]
        report = {"software": software(), "exit_code": code, "folders": folders, "error": error}
        print(json.dumps(report))
    return code


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="folder of shards or images, or of train/ and val/")
    parser.add_argument("--deep", action="store_true", help="decode every image of the shards too")
    parser.add_argument(
        "--repair", type=Path, metavar="SRC", help="make damaged shards again from this source"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes; default: one for each core"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, for scripts")
    return parser.parse_args(argv)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    return [path / split for split in SPLITS if (path / split).is_dir()] or [path]


def _check(folder: Path, arguments: argparse.Namespace) -> FolderResult:
    manifest = read_manifest(folder)
    if manifest is not None:
        return _check_shards(folder, manifest, arguments)
    if any(folder.glob("*.tar*")):
        raise DataError(
            f"{folder}: holds shards but no manifest: the conversion is not finished, or another"
            " program made them. Run tools/make_shards.py (again)"
        )
    if arguments.repair:
        raise DataError(f"{folder}: --repair is for shards; this is a folder of images")
    return _check_images(folder, arguments)


def _check_shards(folder: Path, manifest: Manifest, arguments: argparse.Namespace) -> FolderResult:
    jobs = check_jobs(folder, manifest, deep=arguments.deep)
    problems, damaged = check_index(folder, manifest), []
    workers = min(_num_workers(arguments, manifest["bytes"]), len(jobs))
    with ImageProgress(str(folder), manifest["samples"], manifest["bytes"]) as progress:
        checked = map_in_processes(check_shard, jobs, progress.advance, workers=workers)
        for number, found in sorted(checked, key=lambda result: result[0]):
            if found:
                damaged.append(number)
                problems += found
    result = FolderResult(str(folder), manifest["samples"], len(jobs), _as_dicts(problems))
    if problems and arguments.repair:
        _repair(folder, manifest, damaged, arguments, result)
    return result


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
    return FolderResult(str(folder), len(scan), 0, _as_dicts(problems))


def _num_workers(arguments: argparse.Namespace, work_bytes: int) -> int:
    if not arguments.workers and work_bytes < _WORTH_PROCESSES_BYTES:
        return 1
    return arguments.workers or available_cores()


def _repair(
    folder: Path,
    manifest: Manifest,
    damaged: list[int],
    arguments: argparse.Namespace,
    result: FolderResult,
) -> None:
    """Make the damaged shards again, then the index if it is damaged."""
    try:
        if damaged:
            layout = find_layout(arguments.repair)
            layout.check(manifest["split"])
            scan = layout.splits[manifest["split"]]()
            size = sum(manifest["shards"][shard]["bytes"] for shard in damaged)
            images = sum(manifest["shards"][shard]["samples"] for shard in damaged)
            with ImageProgress(f"{folder}: repair", images, size) as progress:
                repair_shards(folder, manifest, scan, damaged, progress.advance)
            result.repaired = [manifest["shards"][shard]["name"] for shard in damaged]
        if check_index(folder, manifest):
            rebuild_index(folder, manifest)
            result.repaired.append(manifest["index"]["name"])
    except DataError as error:
        result.error = str(error)


def _as_dicts(problems: list[Problem]) -> list[dict[str, str]]:
    return [{k: printable(v) for k, v in problem._asdict().items()} for problem in problems]


def _in_words(result: FolderResult) -> str:
    shards = f" in {result.shards:,} shards" if result.shards else ""
    found = f"{len(result.problems)} problems" if result.problems else "sound"
    lines = [f"{result.folder}: {result.images:,} images{shards}: {found}"]
    lines += ["  {where}: {kind}: {detail}".format(**problem) for problem in result.problems]
    if result.repaired:
        lines.append(f"  made again: {', '.join(result.repaired)}")
    if result.error:
        lines.append(f"  cannot be repaired: {result.error}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
