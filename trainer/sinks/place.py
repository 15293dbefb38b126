"""Which run a sink is of."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Place:
    """A run, as far as sinks need to know it."""

    folder: Path
    """Of the run."""
    project: str
    """`run.project`: under which the run is listed."""
    done_steps: int
    """Optimizer steps that were done before."""
    is_new: bool
    """Whether the run begins; otherwise it goes on."""
    recipe: dict[str, object]
    """As plain values, to be shown."""

    @property
    def name(self) -> str:
        """Of the run."""
        return self.folder.name
