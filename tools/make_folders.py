# PYTHON_ARGCOMPLETE_OK
"""Write any data set that make_shards reads as class folders: the way back from shards.

    python tools/make_folders.py shards/imagenet --output /imagenet

Interrupted, it goes on where it was when it is started again with the same arguments.
"""

import pipeline.quiet_interrupt  # noqa: F401 (before all that takes long)

import argparse
from functools import partial
from pathlib import Path

from pipeline import command_line
from pipeline.prepare.layouts.find import SPLITS
from pipeline.prepare.writers.folder_writer import write_class_folders
from pipeline.words import counted
from tools.cli import exits
from tools.cli.output_files import check_output_folder
from tools.cli.progress import ImageProgress
from tools.cli.source_options import add_source_options, open_layout


def main(argv: list[str] | None = None) -> int:
    """Convert what the arguments name; returns the exit code."""
    parser = command_line.new_parser(__doc__)
    add_source_options(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="gets a folder for each split"
    )
    parser.add_argument("--split", action="append", choices=SPLITS, help="only this; default: both")
    return exits.told(
        partial(_run, command_line.parse(parser, argv)),
        go_on="run the same command again to go on",
    )


def _run(arguments: argparse.Namespace) -> int:
    splits = arguments.split or SPLITS
    for split in splits:
        check_output_folder(arguments.output / split)
    layout = open_layout(arguments, splits)
    for split in splits:
        scan, folder = layout.splits[split](), arguments.output / split
        with ImageProgress(split, len(scan), int(scan.sizes.sum())) as progress:
            write_class_folders(scan, folder, progress.advance)
        classes = counted(len(scan.classes), "class", "classes")
        print(f"{folder}: {counted(len(scan), 'image')} of {classes}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
