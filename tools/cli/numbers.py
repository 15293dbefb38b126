"""Numbers that options take."""

import argparse


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def several(text: str) -> list[int]:
    """Read whole numbers above 0, with commas between them."""
    return [positive(part) for part in text.split(",")]
