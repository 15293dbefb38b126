"""The launches without a scheduler, on two machines with a network of their own."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.cluster_runs import Files, assert_same_run, events, wait_for_step
from tests.support.namespaces import Node, two_nodes, why_not

REASON = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=REASON or "it can run")]
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("files"), images=400)


@pytest.fixture(scope="module")
def undisturbed(files, tmp_path_factory):
    """The same run on two ranks of one machine, under torchrun."""
    return files.undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with two_nodes(tmp_path_factory.mktemp("nodes")) as both:
        yield both


def start_torchrun(node: Node, files: Files, runs: Path, log: Path) -> subprocess.Popen:
    return node.start(
        ("sh", "cluster/run_node.sh", *files.arguments(runs)),
        log,
        NNODES="2",
        NODE_RANK=str(node.number),
        MASTER_ADDR="node0",
        RANKS_PER_NODE="1",
    )


def start_deepspeed(node: Node, files: Files, runs: Path, log: Path) -> subprocess.Popen:
    hostfile = log.with_name("hostfile")
    hostfile.write_text("node0 slots=1\nnode1 slots=1\n")
    return node.start(
        ("sh", "cluster/hostfile.sh", str(hostfile), *files.arguments(runs)),
        log,
        NODE_RANK=str(node.number),
        MASTER_ADDR=node.address if node.number == 0 else "node0",
    )


def ends(processes: list[subprocess.Popen], log: Path) -> list[int]:
    """How the launchers ended; nothing of theirs is left running."""
    try:
        return [process.wait(TIMEOUT_S) for process in processes]
    except subprocess.TimeoutExpired as error:
        raise AssertionError(log.read_text()[-5000:]) from error
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("start", "stopped"),
    [
        # Which node's script finds the run's own code in exit.json is a matter of moments.
        pytest.param(start_torchrun, ({75}, {75}), id="torchrun"),
        pytest.param(start_deepspeed, ({75, 1}, {75, 1, -15}), id="deepspeed"),
    ],
)
def test_told_to_stop_on_one_node_both_save_and_end_and_the_same_commands_go_on(
    nodes, files, undisturbed, tmp_path, start, stopped
):
    runs, log = tmp_path / "runs", tmp_path / "log"
    processes = [start(node, files, runs, log) for node in nodes]
    wait_for_step(runs, 4, said=log.read_text, timeout_s=TIMEOUT_S)
    os.killpg(processes[1].pid, signal.SIGTERM)
    codes = ends(processes, log)
    assert all(code in may for code, may in zip(codes, stopped, strict=True)), (codes, log)
    assert "told to stop: saved at step" in log.read_text()
    assert ends([start(node, files, runs, log) for node in nodes], log) == [0, 0]
    assert any("going on from" in str(note["text"]) for note in events(runs, "note"))
    assert_same_run(runs, undisturbed)
