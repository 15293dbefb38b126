"""Trying again: what can pass on a network is tried until it succeeds or has failed too often."""

import asyncio
import errno
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pipeline.errors import StorageError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_PERMANENT = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
}
_PERMANENT_NAMES = frozenset(("NoCredentialsError", "NoRegionError", "ParamValidationError"))
_PERMANENT_STATUS = frozenset((400, 401, 403, 405, 410, 414, 501))


@dataclass(frozen=True, slots=True)
class Retry:
    """How often something is tried, and how long the first wait is; each wait is twice the last."""

    attempts: int = 8
    first_wait_s: float = 0.5

    def waits(self) -> Iterator[float]:
        """Yield the seconds to wait after each failure but the last, at random within a factor."""
        for attempt in range(self.attempts - 1):
            yield self.first_wait_s * 2**attempt * random.uniform(0.5, 1)


def try_often(action: Callable[[], _T], url: str, retry: Retry) -> _T:
    """Return what `action` returns, tried until it succeeds.

    Raises:
        OSError: FileNotFoundError and the like, at once.
        StorageError: after the last attempt, or at once if another cannot help.
    """
    waits = retry.waits()
    while True:
        try:
            return action()
        except tuple(_PERMANENT) as permanent:
            # fsspec's have no errno, by which others tell what is wrong.
            number = next(n for kind, n in _PERMANENT.items() if isinstance(permanent, kind))
            raise OSError(number, os.strerror(number), url) from permanent
        except _transient_errors() as transient:
            error = transient
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        wait = None if _is_permanent(error) else next(waits, None)
        if wait is None:
            raise StorageError(f"{url}: {reason}") from error
        _log.warning("%s: %s; trying again in %.1f s", url, reason, wait)
        time.sleep(wait)


def _transient_errors() -> tuple[type[BaseException], ...]:
    """Return what network libraries raise; only those that are loaded can have raised."""
    names = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("gcsfs.retry", "HttpError"),
    )
    loaded = [getattr(sys.modules[module], name) for module, name in names if module in sys.modules]
    return (OSError, asyncio.TimeoutError, *loaded)


def _is_permanent(error: BaseException) -> bool:
    status = getattr(error, "status", None)
    return type(error).__name__ in _PERMANENT_NAMES or status in _PERMANENT_STATUS
