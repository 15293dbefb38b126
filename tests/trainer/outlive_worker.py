"""Run by test_outlive.py as a rank: split, say who it is, and wait to be told to stop."""

import sys
import threading
from pathlib import Path

from trainer.process import launcher
from trainer.process.signals import StopSignal

SIGNALS = ("SIGTERM", "SIGINT")


def main() -> int:
    import os

    folder, code = Path(sys.argv[1]), int(sys.argv[2])
    stop = StopSignal(SIGNALS)
    stand_in = launcher.part(SIGNALS)
    stop.watch_launcher(stand_in.lives)
    (folder / "part").write_text(str(os.getpid()))
    (folder / "part").rename(folder / "rank")
    while not stop.received:
        threading.Event().wait(0.01)
    (folder / "saved").write_text("by itself" if stand_in.lives() else "alone")
    stand_in.tell(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
