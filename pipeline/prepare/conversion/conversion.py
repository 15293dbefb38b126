"""One split to be converted: its input, the options, and what goes where."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.counter import mixed
from pipeline.errors import UnusableImageError
from pipeline.formats.scan import Scan
from pipeline.formats.shard_folder import shard_name
from pipeline.prepare.conversion.plan import Plan, PlanConfig, plan_shards, shard_bytes
from pipeline.prepare.writers.job import ShardJob, WriteConfig, entries, load

if TYPE_CHECKING:
    from pipeline.storage.remote import RemoteFolder


Options = dict[str, str | int | float | bool]
"""What determines the bytes of the shards, besides the source."""

_ESTIMATED_FROM = 200


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """One split to be written to `folder`, or to `remote` if there is one, by way of `folder`."""

    scan: Scan
    folder: Path
    split: str
    plan_config: PlanConfig = field(default_factory=PlanConfig)
    writing: WriteConfig = field(default_factory=WriteConfig)
    remote: "RemoteFolder | None" = None

    @property
    def place(self) -> str:
        """Where the result goes, for messages."""
        return self.remote.url if self.remote else str(self.folder)

    @cached_property
    def plan(self) -> Plan:
        """Return which image goes where."""
        return plan_shards(self.scan.sizes, self.plan_config, self.scan.blocks)

    def options(self) -> Options:
        """Return what determines the bytes of the shards, besides the source."""
        images = self.writing.images
        return {
            **asdict(self.plan_config),
            **asdict(images.recode),
            "codec": images.recode.codec,
            "verify": images.verify,
            "checksums": self.writing.checksums,
            "json_member": self.writing.json_member,
        }

    def name(self, shard: int) -> str:
        """Return the file name of a shard."""
        return shard_name(self.split, shard)

    def planned_bytes(self) -> int:
        """Return the size of all shards; an estimate from some of the images if they are encoded.

        Raises:
            OSError: if one cannot be read for lack of something else than the file.
        """
        plan, sizes = self.plan, self.scan.sizes
        if self.writing.images.recode.makes_jpegs:
            sizes = self._encoded_sizes()
        return sum(self._shard_bytes(sizes[plan.entries(s)]) for s in range(plan.num_shards))

    def needed_bytes(self, plan: Plan, shards: Sequence[int]) -> int:
        """Return what `shards` take on the disk; 0 if images are encoded anew: it is not known."""
        if self.writing.images.recode.quality:
            return 0
        return sum(self._shard_bytes(self.scan.sizes[plan.entries(shard)]) for shard in shards)

    def _shard_bytes(self, sizes: NDArray[np.int64]) -> int:
        return shard_bytes(sizes, json_member=self.writing.json_member)

    def some_job(self) -> ShardJob:
        """Return a job of images from all over the source, for an estimate."""
        # Not every n-th: files that lie in pairs, such as a large one and a small one, are common.
        turns = np.argsort(mixed(np.arange(len(self.scan), dtype=np.uint64)))
        some = np.sort(turns[:_ESTIMATED_FROM])
        job = self.job(Plan(some, np.array([0, len(some)])), 0)
        return replace(job, config=replace(job.config, on_error="fail"))  # nothing is put aside

    def _encoded_sizes(self) -> NDArray[np.int64]:
        """Estimate the size of each image: as others become that are resized, or by its own."""
        job, before, after = self.some_job(), [], []
        for entry in entries(job):
            with suppress(UnusableImageError):
                after.append(len(load(job, entry).data))
                before.append(entry.size)
        sizes = self.scan.sizes
        if not after or self.writing.images.recode.resize:
            return np.full(len(sizes), int(np.mean(after)) if after else 0)
        return (sizes * (sum(after) / sum(before))).astype(np.int64)

    def job(self, plan: Plan, shard: int) -> ShardJob:
        """Return what a worker needs to write `shard`."""
        entries = plan.entries(shard)
        return ShardJob(
            folder=self.folder,
            number=shard,
            name=self.name(shard),
            keys=self.scan.keys.take(pa.array(entries)),
            locations=self.scan.locations.take(pa.array(entries)),
            labels=self.scan.labels[entries],
            sizes=self.scan.sizes[entries],
            classes=self.scan.classes,
            reader=self.scan.reader,
            config=self.writing,
            has_exact_sizes=self.scan.has_exact_sizes,
            remote=self.remote,
        )


def resume_key(conversion: Conversion) -> bytes:
    """Return what must not change between a run and the one that goes on with it."""
    scan = conversion.scan
    state = {
        "source": scan.facts,
        "stamps": int(scan.stamps.sum()),
        "options": conversion.options(),
    }
    return json.dumps(state).encode()
