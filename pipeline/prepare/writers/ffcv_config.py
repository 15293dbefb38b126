"""How images are stored in an FFCV file."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["copy", "jpg", "raw", "smart", "proportion"]

MIN_PAGE_BYTES = 8 << 20
"""FFCV's default."""
MAX_PAGE_BYTES = 1 << 31
"""The largest power of two whose value FFCV's header can hold."""
MAX_SIDE = 65535
"""FFCV keeps width and height in 16 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FfcvConfig:
    """FFCV's write modes, and `copy`. Only `copy` keeps the bytes of JPEGs.

    `copy` stores as pixels what FFCV's decoder does not know: other formats, CMYK, 12 bits.
    """

    mode: Mode = "copy"
    max_resolution: int = 0
    """Images whose long side is longer are made smaller; 0 keeps sizes."""
    quality: int = 90
    """JPEG quality (4:2:0)."""
    smart_threshold: int = 0
    """Mode `smart`: what is larger than this, in bytes of pixels, becomes a JPEG."""
    compress_probability: float = 0.5
    """Mode `proportion`: share of the images that become JPEGs; which ones depends on their keys
    alone."""

    def __post_init__(self) -> None:
        if self.mode == "copy" and self.max_resolution:
            raise ValueError(
                "mode copy keeps the bytes, so max_resolution has no effect; choose mode jpg, raw,"
                " smart or proportion"
            )
        if self.max_resolution < 0:
            raise ValueError(f"max_resolution must be >= 0 pixels, got {self.max_resolution}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be in 1..100, got {self.quality}")
        if (self.mode == "smart") != (self.smart_threshold > 0):
            raise ValueError(
                "mode smart, and no other, needs a smart_threshold > 0 bytes (FFCV stores pixels"
                f" only without one), got mode {self.mode} and {self.smart_threshold}"
            )
        if not 0 <= self.compress_probability <= 1:
            raise ValueError(
                f"compress_probability must be in [0, 1], got {self.compress_probability}"
            )
