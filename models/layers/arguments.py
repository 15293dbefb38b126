"""Constructor arguments, checked where a model is built: a wrong one would fail much later."""

import math
from collections.abc import Sequence
from numbers import Real

Size = int | tuple[int, int]


def check_counts(**values: int | Sequence[int]) -> None:
    """See that arguments, given by name, are whole numbers of at least 1, or sequences of such.

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in values.items():
        numbers = [value] if isinstance(value, int) else value
        is_sequence = isinstance(numbers, Sequence) and not isinstance(numbers, str)
        if not is_sequence or not numbers or not all(map(_is_count, numbers)):
            raise ValueError(f"{name}: expected whole numbers of at least 1, got {value!r}")


def check_stages(**values: Sequence[int]) -> None:
    """See that arguments, given by name, are sequences of whole numbers of at least 1.

    Raises:
        ValueError: naming the argument and its value.
    """
    check_counts(**values)
    for name, value in values.items():
        _check_sequence(name, value)


def check_matching(**values: Sequence[object]) -> None:
    """See that arguments, given by name, are sequences of one number for each stage.

    Raises:
        ValueError: naming the arguments and their values.
    """
    for name, value in values.items():
        _check_sequence(name, value)
    if len({len(value) for value in values.values()}) > 1:
        listed = ", ".join(f"{name} {tuple(value)}" for name, value in values.items())
        raise ValueError(f"{listed} do not fit: give one number of each for every stage")


def check_ratio(name: str, value: float, *, width: int) -> None:
    """See that `value` times `width` is a width too.

    Raises:
        ValueError: naming the argument, its value and the width.
    """
    if not (isinstance(value, Real) and 1 <= value * width < math.inf):
        raise ValueError(
            f"{name}: must be a number that makes at least 1 channel of {width}, got {value!r}"
        )


def check_rate(name: str, value: float) -> None:
    """See that a probability of dropping can be one.

    Raises:
        ValueError: naming the argument and its value.
    """
    if not (isinstance(value, Real) and 0 <= value < 1):
        raise ValueError(f"{name}: must be in [0, 1), got {value!r}")


def check_patch(height: int, width: int, patch_size: int) -> None:
    """See that there is a patch in an image of this size.

    Raises:
        ValueError: naming both sizes.
    """
    if min(height, width) < patch_size:
        raise ValueError(
            f"an image of {height}x{width} pixels is smaller than one patch of "
            f"{patch_size}x{patch_size}; resize the images"
        )


def as_pair(size: object) -> tuple[int, int]:
    """(height, width) of an image size that may be one number.

    Raises:
        ValueError: if it is neither.
    """
    pair = (size, size) if isinstance(size, int) else size
    if isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(_is_count, pair)):
        return pair[0], pair[1]
    raise ValueError(
        f"img_size: expected a number of pixels, or (height, width), whole and at least 1,"
        f" got {size!r}"
    )


def _check_sequence(name: str, value: object) -> None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{name}: give a sequence, one number for each stage, got {value!r}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
