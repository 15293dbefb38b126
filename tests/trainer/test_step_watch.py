"""Steps that are not as others are named, with their samples and weights, on ranks and stages."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from trainer.engine.gradient_check import gradient_norms
from trainer.watch.odd_steps import MOST, NAME, OddStep, OddStepList
from trainer.watch.spikes import LEAST, WINDOW, SpikeRule


@pytest.fixture(scope="module")
def results(forks):
    return forks.run_worker(Path(__file__).with_name("step_watch_worker.py"), 2, "0123")


@pytest.mark.parametrize("stage", ["0", "1", "2", "3"])
def test_the_weights_whose_gradients_are_not_finite_are_named(results, stage):
    (odd,) = [line for line in results[stage]["lines"] if line["step"] == 3]
    assert odd["what"] == "not finite"
    assert (odd["first_weight"], odd["last_weight"]) == ("stem.weight", "head.bias")
    assert odd["num_weights"] == 2
    assert odd["loss"] is not None  # a gradient alone was spoiled


@pytest.mark.parametrize("stage", ["0", "1", "2", "3"])
def test_a_loss_that_is_not_finite_is_laid_to_its_rank_and_samples(results, stage):
    (odd,) = [line for line in results[stage]["lines"] if line["step"] == 5]
    assert odd["what"] == "not finite"
    assert odd["loss"] is None
    assert [loss is None for loss in odd["rank_losses"]] == [False, True]
    assert odd["num_weights"] > 2
    # Rank r has images 8 m + 4 r to 8 m + 4 r + 3 in micro-batch m of each step.
    shares = [
        [f"image {8 * m + 4 * rank + i}" for m in (0, 1) for i in range(4)] for rank in (0, 1)
    ]
    assert odd["samples"] == shares
    (note,) = [text for step, text in results[stage]["notes"] if step == 5]
    assert note.startswith("step 5 was skipped: the gradient of ")
    assert "those of rank 1 were image 4, image 5, image 6, ..." in note


@pytest.mark.parametrize("stage", ["0", "1", "2", "3"])
def test_nothing_else_is_odd_and_the_loss_is_the_mean(results, stage):
    found = results[stage]
    assert [line["step"] for line in found["lines"]] == [3, 5]
    assert found["settled"] == pytest.approx(found["mean"], rel=1e-6)


def test_norms_are_those_that_torch_clips_by():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(size)) for size in ((3, 4), (5,), (7, 2, 2))]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    gradients = [weight.grad for weight in weights]
    total = torch.linalg.vector_norm(gradient_norms(gradients))
    assert torch.equal(total, torch.nn.utils.get_total_norm(gradients))


def noisy(count: int, *, middle: float = 2.0, seed: int = 0) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    return (middle + 0.1 * torch.randn(count, generator=generator)).tolist()


def test_a_loss_far_above_those_before_is_a_spike():
    rule = SpikeRule()
    assert [rule.judge(loss) for loss in noisy(LEAST)] == [None] * LEAST
    assert rule.judge(3.5) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_a_falling_loss_are_no_spikes(seed):
    rule = SpikeRule()
    slope = [3.0 * math.exp(-i / 300) for i in range(1000)]
    losses = [loss + fall for loss, fall in zip(noisy(1000, seed=seed), slope, strict=True)]
    assert [rule.judge(loss) for loss in losses] == [None] * 1000


def test_a_loss_near_zero_has_no_spikes_of_noise_alone():
    rule = SpikeRule()
    assert [rule.judge(1e-3) for _ in range(LEAST)] == [None] * LEAST
    assert rule.judge(1.04e-3) is None
    assert rule.judge(1.06e-3) is not None


def test_a_new_level_is_a_spike_until_it_is_the_usual():
    rule = SpikeRule()
    for loss in noisy(WINDOW):
        rule.judge(loss)
    judged = [rule.judge(loss) for loss in noisy(WINDOW, middle=5.0)]
    assert judged[0] is not None
    assert judged[-1] is None


def test_too_few_losses_tell_nothing():
    rule = SpikeRule()
    for loss in noisy(LEAST - 1):
        rule.judge(loss)
    assert rule.judge(100.0) is None


def odd(step: int) -> OddStep:
    losses = (2.0, 9.0)
    return OddStep(
        step=step, epoch=0, what="spike", loss=5.5, median=2.0, rank_losses=losses, samples=((), ())
    )


def test_a_run_that_goes_on_lists_each_step_once(tmp_path):
    first = OddStepList(tmp_path, step=0)
    for step in (3, 7, 9):
        first.add(odd(step))
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"step": 10, "ep')  # torn by a kill
    again = OddStepList(tmp_path, step=7)
    again.add(odd(9))
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 7, 9]


def test_the_list_does_not_grow_for_ever(tmp_path):
    file = OddStepList(tmp_path, step=0)
    assert all(file.add(odd(step)) for step in range(MOST))
    assert not file.add(odd(MOST))
    assert len((tmp_path / NAME).read_text().splitlines()) == MOST


def test_the_rank_of_the_largest_loss_is_suspected_of_a_spike():
    assert odd(3).suspect == 1
