"""`exit.json`: how a run's last process ended, for scripts whose launcher does not tell.

torchrun ends with 1 whatever code its ranks end with. A process that was killed leaves no such
file, only the lock on the folder, which has its number.
"""

import json
import os
import re
import socket
import time
from pathlib import Path

from pipeline.storage.files import write_atomically

EXIT_FILE = "exit.json"
LOCK_FILE = ".lock"
"""What `run_folder` locks, and writes into whose process trains."""


def write_exit(folder: Path, *, code: int, text: str, rank: int, is_echo: bool = False) -> None:
    """Write how this rank ended, if the run has a folder; the last that says why stands.

    Args:
        folder: of the run.
        code: exit code.
        text: what was said.
        rank: of this process.
        is_echo: this rank ends because of another one, whose words are kept if they are there.
    """
    path = folder / EXIT_FILE
    if not folder.is_dir() or (is_echo and path.exists()):
        return
    told = {
        "exit_code": code,
        "message": text,
        "rank": rank,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    write_atomically(path, json.dumps(told, indent=2).encode() + b"\n")


def read_exit(folder: Path) -> dict[str, str | int]:
    """What `write_exit` left in the folder of a run; empty while a process trains."""
    path = folder / EXIT_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def dead_process(run: Path) -> str:
    """The process of this machine that trained in the folder last, if it is gone; else empty.

    It is only known of processes that this machine shows, and a later one may have its number.
    """
    lock = run / LOCK_FILE
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    found = re.match(r"(process (\d+) on (\S+)), started", text)
    if found is None or found[3] != socket.gethostname():
        return ""
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return found[1]
    except PermissionError:  # somebody else's
        return ""
    return ""
