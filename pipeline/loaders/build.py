"""Builds the loader that a recipe asks for."""

import importlib.util
import logging
from contextlib import suppress
from importlib import metadata

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.augment.config import AugmentConfig
from pipeline.batch import Loader, Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.formats.source import Source
from pipeline.loaders.bad_images import Report
from pipeline.loaders.encoded import EncodedBatches

_log = logging.getLogger(__name__)

_NVJPEG = ("nvidia-nvjpeg", "nvidia-nvjpeg-cu13", "nvidia-nvjpeg-cu12")
"""Packages that it comes in."""
_LEAST_NVJPEG = (13, 2)


def build_loader(
    source: Source,
    *,
    data: DataConfig,
    augment: AugmentConfig,
    spec: InputSpec,
    batch_size: int,
    accumulation: int,
    placement: Placement,
    seed: int,
    training: bool,
    chosen: NDArray[np.int64] | None = None,
    report: Report | None = None,
) -> Loader:
    """Build the loader that `data` asks for.

    Args:
        source: the samples.
        data: which loader, how many threads, what to do about unreadable images.
        augment: what is done to training images.
        spec: the size of the images, and the evaluation resize.
        batch_size: images of one rank's micro-batch.
        accumulation: micro-batches of an optimizer step; 1 in evaluation.
        placement: rank, number of ranks and device.
        seed: of the run; keys order and draws.
        training: shuffle, draw crops and drop the tail; or else go through all samples in order,
            crop their centres and pad the last batch.
        chosen: draws (`order.sample_of`) that make up every epoch, in their order, to look at them;
            by default all samples, in the epoch's order.
        report: is told of each image that a gray one replaces, each time.

    Raises:
        ValueError: if the training set has fewer samples than one optimizer step, or if the loader
            lacks what the recipe asks for.
    """
    batches = EncodedBatches(
        source,
        data=data,
        augment=augment,
        spec=spec,
        batch_size=batch_size,
        accumulation=accumulation,
        placement=placement,
        seed=seed,
        training=training,
        chosen=chosen,
        report=report,
    )
    loader = choose(data, placement.device)
    if loader == "host":
        from pipeline.loaders.host_loader import HostLoader

        return HostLoader(batches, spec=spec, device=placement.device)
    if loader == "dali":
        from pipeline.loaders.dali_loader import DaliLoader

        crops = None
        if data.decode == "gpu" and placement.device.type == "cuda":
            check_nvjpeg()
        if data.decode == "cpu":
            from pipeline.loaders.host_crops import HostCrops

            crops = HostCrops(spec, threads=batches.threads)
        return DaliLoader(batches, spec=spec, device=placement.device, crops=crops)
    from pipeline.loaders.reference_loader import ReferenceLoader

    return ReferenceLoader(batches, spec=spec, device=placement.device)


def check_nvjpeg() -> None:
    """See that the decoder of a GPU upsamples the chroma of regions as the CPU does.

    DALI does not say which nvJPEG it loads, so the installed package is asked; one that comes with
    the machine's CUDA is not known.

    Raises:
        ValueError: if it is older than that.
    """
    for package in _NVJPEG:
        with suppress(metadata.PackageNotFoundError):
            version = metadata.version(package)
            if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_NVJPEG:
                raise ValueError(
                    f"data.decode gpu: {package} is {version}, which upsamples the chroma of"
                    " regions unlike the CPU; install nvidia-nvjpeg 13.2 or newer, or use"
                    " data.decode cpu"
                )


def choose(data: DataConfig, device: torch.device) -> str:
    """Return which loader `data.loader` means on `device`.

    Raises:
        ValueError: if it, or `data.decode`, needs the native extension, and that is not there.
    """
    is_built = importlib.util.find_spec("millstream_native") is not None
    for name, value, instead in (
        ("data.loader", data.loader, "data.loader dali"),
        ("data.decode", data.decode, "data.decode gpu, with which DALI decodes"),
    ):
        if value in ("host", "cpu") and not is_built:
            raise ValueError(
                f"{name} {value} needs the native extension, which is not built; 'make env' builds"
                f" it where there is a C++ compiler and libjpeg-turbo; or use {instead}"
            )
    if data.loader != "auto":
        return data.loader
    if device.type != "cpu":
        return "dali"
    if not is_built:
        _log.info("data.loader is dali: the native extension, which is faster, is not built")
    return "host" if is_built else "dali"
