"""What figures of a GPU depend on: the machine, the GPU, its driver, and versions."""

import subprocess

import torch

from benchmarks.machine import machine

PACKAGES = ("torch", "triton", "torchvision", "timm", "deepspeed", "nvidia-dali-cuda130")


def about(device: torch.device) -> dict[str, object]:
    """Return what figures of `device` depend on; None for a package that is not installed."""
    found = {**machine(*PACKAGES), "device": device.type}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = properties.name
        found["gpu memory [bytes]"] = properties.total_memory
        found["compute capability"] = f"{properties.major}.{properties.minor}"
        found["cuda"] = torch.version.cuda
        found["driver"] = asked_of_driver("driver_version")
    return found


def asked_of_driver(key: str) -> str | None:
    """Return what nvidia-smi says of the first GPU; None where it does not know."""
    command = ["nvidia-smi", f"--query-gpu={key}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
