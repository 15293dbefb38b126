"""How fast do batches come? DALI on the GPU over threads, batches and shares of the JPEG engine.

    python -m benchmarks.gpu.pipeline_speed --output OUT/pipeline_speed.json --data FOLDER

Encoded photographs lie in memory, about as large as ImageNet's; FOLDER/images has others. Each case
counts the images of whole batches on the device, after batches that fill the queues. CPU time is
that of all threads of the process. The engine's share is what DALI gives it of the JPEGs; its use
is what the driver says while batches flow.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

import numpy as np

from benchmarks.gpu.frame.about import asked_of_driver
from benchmarks.gpu.frame.batches import endless, open_loader
from benchmarks.gpu.frame.device import wait
from benchmarks.gpu.frame.experiment import Case, Result, main
from benchmarks.gpu.frame.pictures import image_folder
from pipeline.augment.config import AugmentConfig
from pipeline.batch import Batch
from pipeline.config import DataConfig
from pipeline.formats.open import open_source
from pipeline.loaders import dali_graph
from tools.speed.held_source import HeldSource

POLICY = "rand-m9-mstd0.5-inc1"
_DEFAULT_SHARE = 0.65
"""DALI's own."""
_WARM_UP = 8
"""Batches: more than loaders keep ready."""


class Setting(NamedTuple):
    """Who decodes, on how many threads; the size of batches; the engine's share; the policy."""

    decode: Literal["gpu", "cpu"] = "gpu"
    threads: int = 16
    batch: int = 256
    share: float = _DEFAULT_SHARE
    policy: str = ""


SETTINGS = {
    "16 threads": Setting(),
    "16 threads, RandAugment": Setting(policy=POLICY),
    "host decodes, 16 threads": Setting(decode="cpu"),
    "host decodes, 16 threads, RandAugment": Setting(decode="cpu", policy=POLICY),
    "8 threads": Setting(threads=8),
    "4 threads": Setting(threads=4),
    "16 threads, no JPEG engine": Setting(share=0.0),
    "16 threads, JPEG engine alone": Setting(share=1.0),
    "16 threads, batch 64": Setting(batch=64),
    "16 threads, batch 512": Setting(batch=512),
}


@contextmanager
def engine_share(share: float) -> Iterator[None]:
    """Let DALI's graphs that are built meanwhile give the JPEG engine so much of the images."""
    decode = dali_graph.fn.decoders.image_slice

    def decoded(*inputs: Any, **options: Any) -> Any:
        return decode(*inputs, hw_decoder_load=share, **options)

    with mock.patch.object(dali_graph.fn.decoders, "image_slice", decoded):
        yield


def measure(arguments: argparse.Namespace, setting: Setting) -> Result:
    """Measure one setting."""
    device = arguments.device
    held, seconds = (4096, 8.0) if device.type == "cuda" else (2 * setting.batch, 0.3)
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(image_folder(arguments.data, Path(scratch, "images"), at_least=held))
        source = HeldSource(source, np.arange(held))
    bytes_each = sum(sample.data.size for sample in source.read_many(np.arange(held))) / held
    data = DataConfig(loader="dali", decode=setting.decode, threads=setting.threads)
    augment = AugmentConfig(auto_augment=setting.policy)
    with (
        engine_share(setting.share),
        closing(open_loader(source, data, augment, batch=setting.batch, device=device)) as loader,
    ):
        batches = endless(loader)
        for _ in range(_WARM_UP):
            next(batches)
        wait(device)
        images, used, wall, cpu = 0, None, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            images += len(next(batches).labels)
        wait(device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if device.type == "cuda":
            used = _engine_use(batches)
    return {
        **setting._asdict(),
        "bytes_per_image": round(bytes_each),
        "images_per_s": images / wall,
        "cpu_us_per_image": 1e6 * cpu / images,
        "jpeg_engine_percent": used,
    }


def _engine_use(batches: Iterator[Batch]) -> str | None:
    """Return the use of the JPEG engine in percent, asked for while batches flow."""
    with ThreadPoolExecutor(1) as asking:  # the answer takes the driver longer than queues last
        answer = asking.submit(asked_of_driver, "utilization.jpeg")
        while not answer.done():
            next(batches)
    return answer.result()


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """Return a case a setting."""
    settings = SETTINGS
    if arguments.device.type == "cpu":
        names = ("16 threads, RandAugment", "host decodes, 16 threads")
        settings = {name: SETTINGS[name]._replace(threads=1, batch=4) for name in names}
    return {name: partial(measure, arguments, setting) for name, setting in settings.items()}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, cases))
