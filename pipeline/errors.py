"""All that a user of the pipeline can be told: what kinds of errors there are.

Each message names the file, the value, the rule and the remedy.
"""

from typing import NamedTuple

from pipeline.words import counted


class Problem(NamedTuple):
    """Something in the input that does not fit, and that the user has to know of.

    Attributes:
        kind: short, such as "empty class"; messages are grouped by it.
        where: the location of the file or folder, relative to the split's folder.
        detail: what is wrong with it, in words; may be empty.
    """

    kind: str
    where: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}" + (f": {self.detail}" if self.detail else "")


class DataError(ValueError):
    """Data that cannot be used. The message names the file, the value, the rule, the remedy."""


class OutputError(ValueError):
    """The output folder cannot be written to: it is in use, or holds something else."""


class StorageError(RuntimeError):
    """A storage service could not be reached or refuses; the message names the URL.

    Not an OSError: those are about one file, and a conversion may be told to skip a file.
    """


class WorkerError(RuntimeError):
    """A worker process died."""


class UnusableInputError(DataError):
    """Files or folders that cannot be used were found; `problems` has all of them."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(
            f"{counted(len(problems), 'file or folder', 'files or folders')} cannot be used"
        )
        self.problems = problems


class UnusableImageError(ValueError):
    """An image that must not get into a data set; `kind` is short, the message says more."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
