"""The options of make_shards that say what is written; `targets` has what they mean."""

import argparse
import re

from tools.cli.numbers import jpeg_quality, positive, probability

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
        type=jpeg_quality,
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
        "--max-resolution",
        type=positive,
        metavar="PIXELS",
        help="shorten the long side of larger ones",
    )
    group.add_argument(
        "--smart-threshold",
        type=positive,
        metavar="BYTES",
        help="smart: more pixels become a JPEG",
    )
    group.add_argument(
        "--compress-probability",
        type=probability,
        metavar="P",
        help="proportion: share of JPEGs",
    )
