"""`exit.json`: how a run's last process ended, for scripts whose launcher does not tell.

torchrun ends with 1 whatever code its ranks end with.
"""

import json
import os
import socket
import time
from pathlib import Path

from pipeline.storage.files import write_atomically

EXIT_FILE = "exit.json"


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
