"""Numbers that options take."""

import argparse
import math


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def several(text: str) -> list[int]:
    """Read whole numbers above 0, with commas between them."""
    return [positive(part) for part in text.split(",")]


def jpeg_quality(text: str) -> int:
    """Read a quality that JPEG encoders take."""
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"expected a quality in 1..100, got {text!r}")
    return int(text)


def probability(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return number
