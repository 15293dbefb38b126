"""Run on two ranks by test_watchdog.py: one of them hangs or ends, as the argument says."""

import os
import signal
import sys
import threading

import torch.distributed as dist

from trainer.process.watchdog import Watchdog

LIMIT_S = 2.5


def give_up(verdict: str) -> None:
    """Say it, and end."""
    sys.stdout.write(f"{verdict}\n")
    sys.stdout.flush()
    os._exit(1)


def main() -> None:
    dist.init_process_group("gloo")
    rank, (what, who) = dist.get_rank(), sys.argv[1:]
    watchdog = Watchdog(LIMIT_S, give_up)
    watchdog.doing("waiting for the images of step 7", bounded=True)
    if str(rank) == who:
        if what == "frozen":
            threading.Event().wait(LIMIT_S / 2)  # a sign of life says what it does
            os.kill(os.getpid(), signal.SIGSTOP)
        elif what == "stuck":
            threading.Event().wait()
        elif what == "dead":
            os._exit(9)
        elif what == "slow":  # not bounded, and longer than the limit
            watchdog.doing("evaluating after step 7")
            threading.Event().wait(2 * LIMIT_S)
    # As nccl does: the peer is waited for, without a timeout.
    watchdog.doing("computing step 7", bounded=what not in ("slow", "done"))
    if what in ("slow", "done"):
        watchdog.finish()
        return
    threading.Event().wait()


if __name__ == "__main__":
    main()
