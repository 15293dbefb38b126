"""The options of make_shards that say what is written, and what they mean."""

import argparse
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.formats.scan import Scan
from pipeline.images.recode import ImageConfig, RecodeConfig
from pipeline.prepare.conversion.conversion import Conversion
from pipeline.prepare.conversion.parts import WHOLE
from pipeline.prepare.conversion.plan import PlanConfig
from pipeline.prepare.conversion.remote_output import staging_folder
from pipeline.prepare.conversion.run import RunJobs, run_in_processes, run_in_turn
from pipeline.prepare.writers.ffcv_config import FfcvConfig
from pipeline.prepare.writers.job import WriteConfig
from pipeline.storage.remote import RemoteFolder
from tools.cli.numbers import positive

DEFAULT_QUALITY = 90
"""Of JPEGs that are resized."""

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


_WORTH_PROCESSES = 5000
_WORTH_PROCESSES_DECODED = 300
"""Fewer images, copied or decoded, are done before processes have started."""
_FFCV_ONLY = ("write_mode", "max_resolution", "smart_threshold", "compress_probability")
_SHARDS_ONLY = ("shard_size", "shard_samples", "metadata", "merge")


def add_shard_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    layout = parser.add_argument_group("layout of the shards")
    size = layout.add_mutually_exclusive_group()
    size.add_argument(
        "--shard-size",
        type=parse_size,
        metavar="SIZE",
        help="size of a shard, such as 1GB, counted before re-encoding; default 256MB",
    )
    size.add_argument(
        "--shard-samples", type=positive, metavar="N", help="instead: images in a shard"
    )
    layout.add_argument(
        "--order",
        choices=("shuffled", "kept"),
        default="shuffled",
        help="shuffled once and for all, with a fixed seed (default), or class after class",
    )
    layout.add_argument("--metadata", action="store_true", help="add a member KEY.json")
    images = parser.add_argument_group("images (by default their bytes are kept)")
    images.add_argument(
        "--resize",
        type=positive,
        default=0,
        metavar="PIXELS",
        help="shorten the short side of larger images; encodes all anew",
    )
    images.add_argument(
        "--quality",
        type=positive,
        default=0,
        metavar="Q",
        help=f"encode anew as JPEGs of this quality; default with --resize: {DEFAULT_QUALITY}",
    )
    images.add_argument(
        "--normalize",
        action="store_true",
        help="convert what is not a plain 8-bit RGB JPEG (PNG, CMYK, gray, ...), turn as EXIF says",
    )
    images.add_argument("--verify", action="store_true", help="decode every image to check it")
    images.add_argument(
        "--on-error",
        choices=("fail", "skip", "quarantine"),
        default="fail",
        help="what cannot be used: list all of it and fail (default), leave it out, or leave it out"
        " and put a copy into the folder quarantine/",
    )
    images.add_argument(
        "--no-checksums",
        action="store_true",
        help="write no CRC-32 and SHA-256: faster, but damage will not be noticed",
    )


def add_workers_option(parser: argparse.ArgumentParser) -> None:
    """Add --workers."""
    parser.add_argument(
        "--workers",
        type=positive,
        default=0,
        metavar="N",
        help="processes; default: one for each core",
    )


def plan_config(arguments: argparse.Namespace) -> PlanConfig:
    """Return how samples are laid out."""
    if arguments.shard_samples:
        return PlanConfig(
            order=arguments.order, shard_bytes=0, shard_samples=arguments.shard_samples
        )
    if arguments.shard_size:
        return PlanConfig(order=arguments.order, shard_bytes=arguments.shard_size)
    return PlanConfig(order=arguments.order)


def write_config(arguments: argparse.Namespace) -> WriteConfig:
    """Return how shards are written."""
    quality = arguments.quality or (DEFAULT_QUALITY if arguments.resize else 0)
    recode = RecodeConfig(resize=arguments.resize, quality=quality, normalize=arguments.normalize)
    return WriteConfig(
        images=ImageConfig(recode=recode, verify=arguments.verify),
        on_error=arguments.on_error,
        checksums=not arguments.no_checksums,
        json_member=arguments.metadata,
    )


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def parse_size(text: str) -> int:
    """Read a number of bytes such as `256MB`.

    Raises:
        argparse.ArgumentTypeError: if it is none, or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B|)", text.strip().upper())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"a size is a number with a unit, 256MB, got {text!r}")
    return size


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument(
        "--format",
        choices=("shards", "ffcv"),
        default="shards",
        help="WebDataset shards (default), or one FFCV file for each split: SPLIT/SPLIT.beton",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="who writes: processes of this machine (default), or the Ray cluster at $RAY_ADDRESS;"
        " --workers is then the number of shards written at a time",
    )
    group = parser.add_argument_group("FFCV files (--format ffcv; names as in FFCV)")
    group.add_argument(
        "--write-mode",
        choices=("copy", "jpg", "raw", "smart", "proportion"),
        help="copy (default) keeps the bytes of JPEGs; the others are FFCV's, with --quality",
    )
    group.add_argument(
        "--max-resolution", type=int, metavar="PIXELS", help="shorten the long side of larger ones"
    )
    group.add_argument(
        "--smart-threshold", type=int, metavar="BYTES", help="smart: more pixels become a JPEG"
    )
    group.add_argument(
        "--compress-probability", type=float, metavar="P", help="proportion: share of JPEGs"
    )


def new_conversion(
    arguments: argparse.Namespace, *, scan: Scan, folder: Path | RemoteFolder, split: str
) -> Conversion:
    """Return the conversion of one split.

    Raises:
        ValueError: if options do not go together, or FFCV is not there.
    """
    layout, writing = plan_config(arguments), write_config(arguments)
    if arguments.format == "shards":
        _refuse(arguments, _FFCV_ONLY, "--format ffcv")
        remote = folder if isinstance(folder, RemoteFolder) else None
        return Conversion(
            scan=scan,
            folder=folder if isinstance(folder, Path) else staging_folder(folder, arguments.part),
            split=split,
            plan_config=layout,
            writing=writing,
            remote=remote,
        )
    if isinstance(folder, RemoteFolder):
        raise ValueError(f"{folder.url}: --format ffcv writes to local folders only")
    _refuse(arguments, _SHARDS_ONLY, "--format shards")
    if arguments.part != WHOLE:
        raise ValueError("--part needs --format shards: an FFCV file is written in one piece")
    beton, writing = _ffcv_configs(arguments, writing)
    try:
        from pipeline.prepare.conversion.ffcv_conversion import FfcvConversion
    except ImportError as error:
        raise ValueError(
            f"--format ffcv needs FFCV, which cannot be imported ({error}): install libopencv-dev,"
            " libturbojpeg0-dev and pkg-config, then 'pip install millstream[ffcv]'"
        ) from error
    return FfcvConversion(
        scan=scan, folder=folder, split=split, plan_config=layout, writing=writing, beton=beton
    )


def new_runner(arguments: argparse.Namespace, conversion: Conversion) -> RunJobs:
    """Return what writes the shards of `conversion`, with so many workers as are worth it.

    Raises:
        ValueError: if Ray is wanted and not there, or of no use.
    """
    if arguments.executor == "ray":
        return _ray_runner(arguments)
    if arguments.format == "ffcv":
        from pipeline.prepare.conversion.ffcv_conversion import FfcvConversion, run_ffcv

        assert isinstance(conversion, FfcvConversion)
        return run_ffcv(conversion.beton, arguments.workers or available_cores())
    images = conversion.writing.images
    is_slow = bool(images.recode.quality) or images.verify
    worth = _WORTH_PROCESSES_DECODED if is_slow else _WORTH_PROCESSES
    if not arguments.workers and len(conversion.scan) < worth:
        return run_in_turn
    workers = min(arguments.workers or available_cores(), conversion.plan.num_shards)
    return run_in_turn if workers <= 1 else partial(run_in_processes, workers=workers)


def _ray_runner(arguments: argparse.Namespace) -> RunJobs:
    if arguments.format == "ffcv":
        raise ValueError("--executor ray needs --format shards: an FFCV file has one writer")
    try:
        from pipeline.prepare.conversion.ray_executor import run_on_ray
    except ImportError as error:
        raise ValueError(f"--executor ray: {error}; pip install 'millstream[ray]'") from error
    return partial(run_on_ray, at_once=arguments.workers)


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], remedy: str) -> None:
    """Refuse options that would have no effect."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value is not False:
            raise ValueError(f"--{name.replace('_', '-')} has no effect without {remedy}")


def _ffcv_configs(
    arguments: argparse.Namespace, writing: WriteConfig
) -> tuple[FfcvConfig, WriteConfig]:
    """With `copy`, --resize and --quality are ours, as for shards; else they are FFCV's."""
    mode = arguments.write_mode or "copy"
    if mode == "raw" and arguments.quality:
        raise ValueError("--quality has no effect with --write-mode raw, which stores pixels")
    if mode != "copy" and (arguments.resize or arguments.normalize):
        raise ValueError(
            f"--resize and --normalize encode as JPEG, which --write-mode {mode} would decode and"
            " encode again; use --max-resolution, or --write-mode copy"
        )
    if mode != "proportion":
        _refuse(arguments, ("compress_probability",), "--write-mode proportion")
    given = {name: getattr(arguments, name) for name in _FFCV_ONLY[1:]}
    given = {name: value for name, value in given.items() if value is not None}
    if mode == "copy":
        return FfcvConfig(mode=mode, **given), writing
    if arguments.quality:
        given["quality"] = arguments.quality
    kept = replace(writing.images, recode=replace(writing.images.recode, quality=0))
    return FfcvConfig(mode=mode, **given), replace(writing, images=kept)
