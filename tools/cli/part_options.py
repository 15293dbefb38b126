"""The options by which several processes, on any machines, share one output."""

import argparse

from pipeline.prepare.conversion.parts import WHOLE, Part, parse_part


def add_part_options(parser: argparse.ArgumentParser) -> None:
    """Add --part and --merge, of which one may be given."""
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


def _part(text: str) -> Part:
    try:
        return parse_part(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
