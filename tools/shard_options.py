"""The options of make_shards that say what is written, and what they mean."""

import argparse
import os
import re

from pipeline.formats.plan import PlanConfig
from pipeline.formats.shard_writer import WriteConfig
from pipeline.images.recode import IntakeConfig, RecodeConfig

DEFAULT_QUALITY = 90
"""Of JPEGs that are resized."""

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


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
        intake=IntakeConfig(recode=recode, verify=arguments.verify),
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


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)
