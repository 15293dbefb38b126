"""Whether models use the fused kernels: by measurement, or as MILLSTREAM_KERNELS says."""

import os

VARIABLE = "MILLSTREAM_KERNELS"


def _forced() -> bool:
    """Read the variable.

    Raises:
        ValueError: if it is neither 0 nor 1.
    """
    value = os.environ.get(VARIABLE, "0")
    if value not in ("0", "1"):
        raise ValueError(f"{VARIABLE}={value}: must be 0 (plain PyTorch) or 1 (fused kernels)")
    return value == "1"


# Read once: a variable that changed between two calls would be compiled in at the first.
# No kernel has been measured on a GPU yet, so none is used unasked.
ENABLED = _forced()
