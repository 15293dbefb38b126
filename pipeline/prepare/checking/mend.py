"""One folder of shards: checked, mended if a source is given, and checked again.

Nothing counts as mended that was not found sound afterwards, as deeply as it was checked before.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.errors import DataError, Problem
from pipeline.formats.scan import Scan
from pipeline.prepare.checking.check_index import check_index, check_report
from pipeline.prepare.checking.check_shard import CheckedShard, check_jobs, check_shard
from pipeline.prepare.checking.repair import rebuild_index, repair_shards
from pipeline.prepare.conversion.manifest import Manifest, printable
from pipeline.prepare.conversion.workers import map_in_processes

OpenSource = Callable[[str], Scan]
"""Returns the scan of a split of the source, of which its name is given."""


class Advancing(Protocol):
    """What shows how far a job is."""

    def advance(self, images: int, size_bytes: int) -> None:
        """Count images as done."""
        ...


ShowProgress = Callable[[str, int, int], AbstractContextManager[Advancing]]
"""Shows the progress of a job for as long as it lasts; is given title, images and bytes of it."""


@dataclass
class FolderResult:
    """What was found in one folder; the `--json` report has the same names."""

    folder: str
    images: int
    shards: int
    problems: list[dict[str, str]] = field(default_factory=list)
    """All that were found."""
    remaining: list[dict[str, str]] = field(default_factory=list)
    """Those that are still there after mending."""
    came_damaged: int = 0
    """Remaining problems of images in shards that are byte for byte what was written."""
    repaired: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Why something could not be mended."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged, any more."""
        return not self.errors and not self.remaining


@dataclass(frozen=True, kw_only=True)
class ShardCheck:
    """How a folder of shards is checked."""

    folder: Path
    manifest: Manifest
    deep: bool
    """Decode every image."""
    workers: int
    """Number of processes."""
    show_progress: ShowProgress

    def run(self, open_source: OpenSource | None) -> FolderResult:
        """Check the folder; with a source also mend it."""
        state = self._check(range(len(self.manifest["shards"])))
        images, shards = self.manifest["samples"], len(self.manifest["shards"])
        result = FolderResult(folder=str(self.folder), images=images, shards=shards)
        if state.seen and open_source:
            self._mend(state, open_source, result)
        result.problems = as_dicts(dict.fromkeys(state.seen))
        result.remaining = as_dicts(state.problems())
        result.came_damaged = state.came_damaged()
        return result

    def _check(self, numbers: Sequence[int]) -> "_State":
        index_problems = check_index(self.folder, self.manifest)
        # Counts that the index denies are the manifest's fault, and no reason to distrust it.
        has_index = all(p.kind == "wrong manifest" for p in index_problems)
        jobs = check_jobs(self.folder, self.manifest, deep=self.deep, has_index=has_index)
        jobs = [jobs[number] for number in numbers]
        images = sum(job.facts["samples"] for job in jobs)
        size = sum(job.facts["bytes"] for job in jobs)
        workers = min(self.workers, len(jobs))
        with self.show_progress(str(self.folder), images, size) as progress:
            checked = map_in_processes(check_shard, jobs, progress.advance, workers=workers)
            shards = {shard.number: shard for shard in checked}
        report_problems = check_report(self.folder, self.manifest)
        return _State(has_index, [*index_problems, *report_problems], shards)

    def _mend(self, state: "_State", open_source: OpenSource, result: FolderResult) -> None:
        """Mend what can be; `state` is then that afterwards, `result` tells what was done."""
        try:
            self._mend_shards(state, open_source, result)
            if not state.has_index:
                # The shards are now proved by the manifest, and the index by them.
                rebuild_index(self.folder, self.manifest)
                result.repaired.append(self.manifest["index"]["name"])
                state.update(self._check(range(len(self.manifest["shards"]))))
                self._mend_shards(state, open_source, result)
        except DataError as error:
            result.errors.append(str(error))

    def _mend_shards(self, state: "_State", open_source: OpenSource, result: FolderResult) -> None:
        damaged = [number for number, shard in state.shards.items() if shard.to_be_mended]
        if not damaged:
            return
        facts = [self.manifest["shards"][number] for number in damaged]
        images, size = sum(f["samples"] for f in facts), sum(f["bytes"] for f in facts)
        scan = open_source(self.manifest["split"])
        with self.show_progress(f"{self.folder}: repair", images, size) as progress:
            failures = repair_shards(self.folder, self.manifest, scan, damaged, progress.advance)
        made = [number for number in damaged if number not in failures]
        result.repaired += (self.manifest["shards"][number]["name"] for number in made)
        result.errors += failures.values()
        state.update(self._check(made))


class _State:
    """What is known of a folder.

    Attributes:
        has_index: whether there is one that the manifest proves right.
        beside: problems of what is no shard.
        shards: by number.
        seen: all problems that were ever found.
    """

    def __init__(
        self, has_index: bool, beside: list[Problem], shards: dict[int, CheckedShard]
    ) -> None:
        self.has_index, self.beside = has_index, beside
        self.shards = dict(sorted(shards.items()))
        self.seen: list[Problem] = self.problems()

    def update(self, later: "_State") -> None:
        """Take over what was found by a later check, of some shards."""
        self.has_index, self.beside = later.has_index, later.beside
        self.shards |= later.shards
        self.seen += later.seen

    def problems(self) -> list[Problem]:
        """Return what is wrong now, shard by shard."""
        return [*self.beside, *(p for shard in self.shards.values() for p in shard.problems)]

    def came_damaged(self) -> int:
        """Return how many images only the source can mend."""
        as_written = (s for s in self.shards.values() if s.is_as_written and s.has_dali_index)
        return sum(len(shard.problems) for shard in as_written)


def as_dicts(problems: Iterable[Problem]) -> list[dict[str, str]]:
    """Return problems as JSON has them."""
    return [{k: printable(v) for k, v in problem._asdict().items()} for problem in problems]
