"""What figures depend on: the machine, its load, and the versions of what was measured."""

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from PIL import features


def machine(*packages: str) -> dict[str, object]:
    """Return what figures depend on, `packages` included; None for one that is not installed."""
    names = ("numpy", "Pillow", "webdataset", *packages)
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "libjpeg-turbo of Pillow": features.version("libjpeg_turbo"),
        **{name: _version(name) for name in names},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def bfloat16_units() -> list[str]:
    """Return what the processor has for products of bfloat16, as Linux calls it."""
    flags = _cpu_fact("flags").split()
    return [unit for unit in ("avx512_bf16", "amx_bf16") if unit in flags]


def _cpu_model() -> str:
    return _cpu_fact("model name") or platform.machine()


def _cpu_fact(key: str) -> str:
    """What Linux says of the first core; empty where it says nothing."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith(key)), "")
