"""Ranks: their devices, what they tell each other, and what they wait for."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.recipes import recipe
from trainer.batch_plan import BatchPlan
from trainer.engine import process_group
from trainer.engine.deepspeed_config import deepspeed_config
from trainer.process import world
from trainer.run_config import RunConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told(forks):
    return forks.run_worker(Path(__file__).with_name("process_worker.py"), 2)


def test_what_ranks_tell_each_other_goes_over_gloo(told):
    assert told["host_backend"] == "gloo"
    assert told["on_main"] == "said by rank 0"
    assert told["local_size"] == 2


def test_all_ranks_stop_at_the_same_poll_the_one_after_the_signal(told):
    mine, others = told["stops"]["polls"]
    assert mine == others == [False, False, False, True, True]
    assert told["stops"]["agreed"]


def test_the_wait_of_a_slow_rank_is_known_to_rank_0_and_counted_once(told):
    fast, slow, *again = told["waits"]
    assert slow >= 0.05 > fast
    assert max(again) < 0.05


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are GPUs, and record what happens in which order."""
    calls: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: calls.append(("device", index)))
    monkeypatch.setattr(
        process_group.deepspeed,
        "init_distributed",
        lambda *, dist_backend, verbose: calls.append(dist_backend),
    )
    monkeypatch.setattr(process_group, "make_host_group", lambda: calls.append("host group"))

    def show(count: int, local_rank: int) -> list[object]:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setenv("LOCAL_RANK", str(local_rank))
        return calls

    return show


def test_the_device_is_set_before_the_first_collective(gpus):
    calls = gpus(count=4, local_rank=3)
    assert process_group.init_process_group() == torch.device("cuda", 3)
    assert calls == [("device", 3), "nccl", "host group"]


def test_a_rank_that_sees_one_gpu_takes_it(gpus):
    calls = gpus(count=1, local_rank=3)
    assert process_group.init_process_group() == torch.device("cuda", 0)
    assert calls[0] == ("device", 0)


def test_more_ranks_than_gpus_are_refused_before_any_collective(gpus):
    calls = gpus(count=2, local_rank=2)
    with pytest.raises(ValueError, match="local rank 2 has no GPU: this machine shows 2"):
        world.choose_device()
    assert calls == []


@pytest.mark.parametrize("cuda", [False, True])
def test_deepspeed_neither_times_nor_overlaps_which_would_wait_for_the_gpu(cuda):
    plan = BatchPlan(per_gpu=8, accumulation=1, world_size=1)
    config = deepspeed_config(recipe(), plan, cuda=cuda, guarded=True)
    assert config["timers"] == {"throughput": {"enabled": False}}
    assert config["zero_optimization"]["overlap_comm"] is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_blocks_taken_again_at_each_step_are_not_mapped_anew():
    code = (
        "import resource\n"
        "from trainer.process.allocator import keep_freed_memory\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def steps():\n"
        "    before = faults()\n"
        "    for _ in range(5): bytearray(b'x') * (64 << 20)\n"
        "    return faults() - before\n"
        "mapped = steps()\n"
        "assert keep_freed_memory()\n"
        "steps()\n"
        "print(mapped, steps())"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    mapped, kept = map(int, shown.stdout.split())
    assert mapped >= 5 * (64 << 20) // resource.getpagesize() // 2
    assert kept < mapped / 100


@pytest.fixture
def mpi(monkeypatch):
    """An environment of `mpirun`, and none of another launcher."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def set_(**names: str) -> None:
        for name, value in names.items():
            monkeypatch.setenv(name, value)

    return set_


@pytest.mark.parametrize(
    "names",
    [
        ("COMM_WORLD_RANK", "COMM_WORLD_SIZE", "COMM_WORLD_LOCAL_RANK", "COMM_WORLD_LOCAL_SIZE"),
        ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ],
    ids=["Open MPI", "PMI"],
)
def test_ranks_that_mpirun_started_know_who_they_are(mpi, names):
    names = [f"OMPI_{name}" if name.startswith("COMM") else name for name in names]
    mpi(**dict(zip(names, ("5", "8", "1", "4"), strict=True)), MASTER_ADDR="10.0.0.1")
    world.bootstrap()
    found = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_SIZE")]
    assert found == ["5", "8", "1", "4"]
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("10.0.0.1", "29500")


def test_ranks_of_one_machine_need_no_address_and_those_of_several_do(mpi):
    mpi(PMI_RANK="0", PMI_SIZE="2", MPI_LOCALRANKID="0", MPI_LOCALNRANKS="1")
    with pytest.raises(ValueError, match="MASTER_ADDR is not set, and 2 ranks are on more than"):
        world.bootstrap()
    mpi(MPI_LOCALNRANKS="2")
    world.bootstrap()
    assert os.environ["MASTER_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stop_signals": ("SIGKILL",)}, "stop_signals must be among .*; got SIGKILL"),
        ({"stop_exit_code": 2}, "stop_exit_code must be in 1..255 and none of 1, 2, 74"),
        ({"watchdog_s": -1.0}, "watchdog_s must be >= 0"),
    ],
)
def test_how_a_run_stops_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**changes)


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        ("launch._leave(launch.BAD_INPUT)", 2, ""),
        ("sys.excepthook = launch._leave_unexpectedly\nraise TypeError('odd')", 1, "odd"),
    ],
    ids=["told", "unexpected"],
)
def test_a_rank_that_fails_ends_at_once_with_its_code(ending, code, words):
    """What waits at the end of a process, as nccl does for its peers, does not keep it."""
    setup = "import atexit, sys, time, launch\natexit.register(time.sleep, 100)\n"
    ended = subprocess.run(
        [sys.executable, "-c", setup + ending],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == code
    assert words in ended.stderr
