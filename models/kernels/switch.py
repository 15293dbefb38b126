"""Whether models use the fused kernels: as a recipe says, or as MILLSTREAM_KERNELS forces."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "MILLSTREAM_KERNELS"


def forced() -> bool | None:
    """What the variable says; None if it is not set.

    Raises:
        ValueError: if it is neither 0 nor 1.
    """
    value = os.environ.get(VARIABLE)
    if value not in (None, "0", "1"):
        raise ValueError(f"{VARIABLE}={value}: must be 0 (plain PyTorch) or 1 (fused kernels)")
    return None if value is None else value == "1"


# No kernel has been measured on a GPU yet, so none is used unasked.
ENABLED = bool(forced())


def choose(enabled: bool) -> None:  # the name says what it is
    """Use the kernels from now on, or not; the variable decides over it.

    A compiled model sees the change and compiles again.
    """
    global ENABLED  # noqa: PLW0603  # models read it at each forward pass
    said = forced()
    ENABLED = enabled if said is None else said


@contextmanager
def off() -> Iterator[None]:
    """Do without the kernels in this context, whatever is said: what is in them can be counted."""
    global ENABLED  # noqa: PLW0603  # as above
    before, ENABLED = ENABLED, False
    try:
        yield
    finally:
        ENABLED = before
