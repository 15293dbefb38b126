"""No step waits for the device: between two log events the host runs ahead of it."""

from pathlib import Path

import pytest
import torch

from tests.support.host_waits import HostWaits

STEPS_BETWEEN = 6
"""After the first log event of the worker."""


@pytest.fixture(scope="module")
def found(forks):
    return forks.run_worker(
        Path(__file__).with_name("waits_worker.py"), 2, "adamw:0", "adamw:1", "adamw:2", "sgd:1"
    )


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_no_step_waits_for_the_device(found, stage):
    assert found[f"adamw:{stage}"]["between"] == []


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_waits_of_log_events_are_seen(found, stage):
    assert min(found[f"adamw:{stage}"]["at_events"]) >= 1


def test_deepspeed_would_wait_in_each_step(found):
    """What is left to DeepSpeed, because the optimizer is not fused, shows that waits are seen."""
    assert len(found["sgd:1"]["between"]) >= STEPS_BETWEEN


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x[0] > 0),
        lambda x: (2 * x).tolist(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.tensor([1.0], device=torch.device("cpu", 0)) + x,
        lambda x: x + torch.ones(3).to(x.device),
    ],
    ids=["item", "bool", "tolist", "cpu", "nonzero", "booleans", "made", "moved"],
)
def test_a_wait_is_seen_wherever_its_numbers_come_from(ask):
    waits, x = HostWaits(), torch.ones(3)
    waits.mark(x)
    with waits.watching():
        y = x * 2 + 1
        assert waits.seen == []
        ask(y)
        assert len(waits.seen) == 1


def test_what_the_host_keeps_for_itself_is_no_wait():
    waits, x = HostWaits(), torch.ones(3)
    waits.mark(x)
    with waits.watching():
        flag = torch.tensor([1.0])
        assert flag.item() == 1
        assert flag.tolist() == [1.0]
    assert waits.seen == []
