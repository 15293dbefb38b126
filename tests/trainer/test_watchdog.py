"""A rank that hangs or dies ends the run, and is named; one that takes its time does not."""

import os
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.forks import free_port

WORKER = Path(__file__).with_name("watchdog_worker.py")


@pytest.fixture
def ranks(forks):
    """Starts two ranks of the worker, without a launcher that would end them."""

    @contextmanager
    def start(what: str, who: int):
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        command = [sys.executable, WORKER, what, str(who)]
        processes = [forks.start(command, **world, RANK=str(rank)) for rank in range(2)]
        try:
            yield processes
        finally:
            for process in processes:
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
                process.communicate()

    return start


@pytest.mark.parametrize("who", [0, 1])
def test_a_rank_that_stands_still_ends_the_others_and_is_named(ranks, who):
    with ranks("frozen", who) as processes:
        told, _ = processes[1 - who].communicate(timeout=60)
        assert processes[1 - who].returncode == 1
    if who == 0:
        assert "rank 0 has not answered for" in told
    else:
        assert f"rank 1 on {socket.gethostname()} (process {processes[1].pid})" in told
        assert "no sign of life" in told
        assert "last waiting for the images of step 7" in told


@pytest.mark.parametrize("who", [0, 1])
def test_a_rank_that_waits_for_ever_ends_all_and_is_named_with_what_it_waits_for(ranks, who):
    with ranks("stuck", who) as processes:
        told = "".join(process.communicate(timeout=60)[0] for process in processes)
        assert [process.returncode for process in processes] == [1, 1]
    expected = f"(process {processes[who].pid}) has been waiting for the images of step 7 for"
    assert f"rank {who} on {socket.gethostname()} {expected}" in told
    assert f"rank {1 - who} on" not in told


@pytest.mark.parametrize("who", [0, 1])
def test_a_rank_that_died_ends_the_other_one(ranks, who):
    with ranks("dead", who) as processes:
        told, _ = processes[1 - who].communicate(timeout=60)
        assert processes[1 - who].returncode == 1
    assert told.startswith(f"rank {who} ")


@pytest.mark.parametrize("what", ["slow", "done"])
def test_ranks_that_take_their_time_or_end_at_different_times_are_left_alone(ranks, what):
    with ranks(what, 1) as processes:
        told = [process.communicate(timeout=60)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
    assert told == ["", ""]
