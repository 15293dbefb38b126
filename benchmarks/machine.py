"""What figures depend on: the machine, its load, and the versions of what was measured."""

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from PIL import features


def machine() -> dict[str, object]:
    """Return what figures depend on."""
    versions = {name: metadata.version(name) for name in ("numpy", "Pillow", "webdataset")}
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "libjpeg-turbo of Pillow": features.version("libjpeg_turbo"),
        **versions,
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
