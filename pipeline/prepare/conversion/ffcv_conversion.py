"""A split written as one FFCV file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import metadata

import numpy as np

from pipeline.errors import Problem
from pipeline.prepare.conversion.conversion import Conversion, Options
from pipeline.prepare.conversion.plan import Plan, PlanConfig, plan_shards
from pipeline.prepare.conversion.run import RunJobs
from pipeline.prepare.writers.ffcv_config import MIN_PAGE_BYTES, FfcvConfig
from pipeline.prepare.writers.ffcv_library import ENCODER
from pipeline.prepare.writers.ffcv_writer import EncodedEntry, encode_entry, write_ffcv
from pipeline.prepare.writers.job import Progress, ShardJob, entries

_ROW_BYTES, _ALLOCATION_BYTES = 21, 24
"""What FFCV keeps of each sample: before the pages of images, and behind them."""


@dataclass(frozen=True, kw_only=True)
class FfcvConversion(Conversion):
    """One split to be written to `folder`/SPLIT.beton; of `plan_config` only the order counts."""

    beton: FfcvConfig = field(default_factory=FfcvConfig)

    @cached_property
    def plan(self) -> Plan:
        """Return the order of the images, all in one file."""
        one = PlanConfig(
            order=self.plan_config.order, shard_bytes=0, shard_samples=max(1, len(self.scan))
        )
        return plan_shards(self.scan.sizes, one, self.scan.blocks)

    def name(self, shard: int) -> str:
        """Return the name of the file; there is only shard 0."""
        assert shard == 0
        return f"{self.split}.beton"

    def planned_bytes(self) -> int:
        """Return the size of the file, estimated from images all over the source."""
        job = self.some_job()
        encoded = (encode_entry(job, self.beton, entry) for entry in entries(job))
        sizes = [len(found.image.data) for found in encoded if isinstance(found, EncodedEntry)]
        if not sizes:
            return 0
        count = len(self.scan)
        tables, images = count * _ROW_BYTES, int(np.mean(sizes) * count)
        pages = sum(-(-content // MIN_PAGE_BYTES) for content in (tables, images))
        return pages * MIN_PAGE_BYTES + count * _ALLOCATION_BYTES

    def needed_bytes(self, plan: Plan, shards: Sequence[int]) -> int:
        """Return what the file takes on the disk."""
        return self.planned_bytes() if shards else 0

    def options(self) -> Options:
        """Return what determines the bytes of the file, besides the source."""
        shared = super().options()
        del shared["shard_bytes"], shared["shard_samples"], shared["json_member"]
        encoder = "" if self.beton.mode == "copy" else ENCODER
        writer = f"ffcv {metadata.version('ffcv')}"
        own = {f"ffcv_{name}": value for name, value in asdict(self.beton).items()}
        return {**shared, **own, "encoder": encoder, "writer": writer}


def run_ffcv(config: FfcvConfig, threads: int) -> RunJobs:
    """Return what writes the jobs of a `FfcvConversion`."""

    def run(jobs: Iterable[ShardJob], progress: Progress) -> Iterator[tuple[Problem, ...]]:
        for job in jobs:
            yield write_ffcv(job, progress, config=config, threads=threads)

    return run
