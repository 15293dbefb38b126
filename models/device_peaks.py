"""What accelerators do at most, by the name that torch gives them: one table for all of us.

From the maker's data sheets and architecture papers, named in each entry: dense (not "with
sparsity"), products of 16-bit numbers summed in float32, at the boost clock. They are bounds:
nothing reaches them, and a card that is held at less power is further away. Models that are not
listed are unknown.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DevicePeaks:
    """Floating point operations a second, by type, and bytes a second of the device's memory."""

    half: float
    """bf16 and fp16."""
    tf32: float
    fp32: float
    """Outside the matrix units."""
    bytes_per_s: float
    source: str

    def flops_per_s(self, dtype: str, *, allow_tf32: bool = False) -> float:
        """The peak of matrix products of `dtype`: bf16, fp16 or fp32."""
        if dtype == "fp32":
            return self.tf32 if allow_tf32 else self.fp32
        return self.half


def _data_sheet(model: str) -> str:
    return f"NVIDIA's data sheet of the {model}"


_AMPERE = "NVIDIA's whitepaper on the GA102 architecture"
_ADA = "NVIDIA's whitepaper on the Ada architecture"
_BLACKWELL = "NVIDIA's whitepaper on the RTX Blackwell architecture"
_A100 = _data_sheet("A100")

PEAKS = {
    "B200": DevicePeaks(2250e12, 1100e12, 75e12, 7.7e12, _data_sheet("HGX B200")),
    "GH200": DevicePeaks(989e12, 495e12, 67e12, 4.0e12, _data_sheet("GH200")),
    "H200": DevicePeaks(989e12, 495e12, 67e12, 4.8e12, _data_sheet("H200")),
    "H100 PCIe": DevicePeaks(756e12, 378e12, 51e12, 2.0e12, _data_sheet("H100 PCIe")),
    "H100 NVL": DevicePeaks(835e12, 418e12, 60e12, 3.9e12, _data_sheet("H100 NVL")),
    "H100": DevicePeaks(989e12, 495e12, 67e12, 3.35e12, _data_sheet("H100")),
    "A100-(?:SXM4|PCIE)-40GB": DevicePeaks(312e12, 156e12, 19.5e12, 1.555e12, _A100),
    "A100 80GB PCIe": DevicePeaks(312e12, 156e12, 19.5e12, 1.935e12, _A100),
    "A100": DevicePeaks(312e12, 156e12, 19.5e12, 2.039e12, _A100),
    "L40S": DevicePeaks(362e12, 183e12, 91.6e12, 0.864e12, _data_sheet("L40S")),
    "L40": DevicePeaks(181e12, 90.5e12, 90.5e12, 0.864e12, _data_sheet("L40")),
    "L4": DevicePeaks(121e12, 60e12, 30.3e12, 0.3e12, _data_sheet("L4")),
    "A40": DevicePeaks(149.7e12, 74.8e12, 37.4e12, 0.696e12, _data_sheet("A40")),
    "RTX A6000": DevicePeaks(154.8e12, 77.4e12, 38.7e12, 0.768e12, _AMPERE),
    "A10": DevicePeaks(125e12, 62.5e12, 31.2e12, 0.6e12, _data_sheet("A10")),
    "RTX 5090": DevicePeaks(209.5e12, 104.8e12, 104.8e12, 1.792e12, _BLACKWELL),
    "RTX 5080": DevicePeaks(112.6e12, 56.3e12, 56.3e12, 0.96e12, _BLACKWELL),
    "RTX 4090": DevicePeaks(165.2e12, 82.6e12, 82.6e12, 1.008e12, _ADA),
    "RTX 4080": DevicePeaks(97.5e12, 48.7e12, 48.7e12, 0.717e12, _ADA),
    "RTX 3090": DevicePeaks(71e12, 35.6e12, 35.6e12, 0.936e12, _AMPERE),
    "RTX 3080": DevicePeaks(59.5e12, 29.8e12, 29.8e12, 0.76e12, _AMPERE),
}
"""By a pattern of the name; more special ones first."""

_OTHER_MODELS = r"(?! (?:Laptop|Max-Q|Mobile|Ti|SUPER|D)\b)"
"""What follows the name of a slower or faster relative."""


def peaks_of(name: str) -> DevicePeaks | None:
    """The peaks of the device that torch calls `name`; None if they are not known."""
    for model, peaks in PEAKS.items():
        if re.search(rf"\b{model}\b{_OTHER_MODELS}", name):
            return peaks
    return None
