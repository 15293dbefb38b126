"""The weights and their average are scored in one pass, as two passes would score them."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from pipeline.batch import IGNORE_LABEL
from trainer.evaluation import Score

WORKER = Path(__file__).with_name("evaluation_worker.py")
CASES = ("fp32 0", "fp32 1", "fp32 2", "fp32 3", "bf16 1")


@pytest.fixture(scope="module")
def results(forks):
    return forks.run_worker(WORKER, 2, "fp32:0123", "bf16:1")


@pytest.mark.parametrize("case", CASES)
def test_one_pass_scores_both_as_two_passes_do(results, case):
    found = results[case]
    raw, average = found["one_pass"]
    assert (raw["ema"], average["ema"]) == (False, True)
    assert [event | {"ema": None} for event in found["one_pass"]] == [
        event | {"ema": None} for event in found["two_passes"]
    ]
    assert raw["loss"] != average["loss"]
    assert found["last"] == average
    assert raw["count"] == 2 * (3 * 6 - 2)


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_of_single_images_of_all_ranks_is_the_score_of_the_average(results, case):
    average, judged = results[case]["one_pass"][-1], results[case]["judged"]
    assert judged["ordered"]
    assert judged["sure"]
    assert judged["count"] == average["count"]
    assert judged["top1"] == pytest.approx(average["top1"])
    # Losses of single images are computed in float32.
    assert judged["loss"] == pytest.approx(average["loss"], rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_each_image_is_asked_for_once(results, case):
    assert results[case]["asked"] == 3


@pytest.mark.parametrize("case", CASES)
def test_weights_and_average_are_the_same_bits_afterwards(results, case):
    found = results[case]
    assert found["same_weights"]
    assert found["same_average"]
    assert found["again"] == found["one_pass"][:1]


@pytest.mark.parametrize("case", CASES)
def test_statistics_are_averaged_over_steps_and_ranks(results, case):
    # Rank + 1, + 2, + 3 on two ranks, from rank on: half the old average at each step.
    steps = ((0.5 * 0 + 0.5 * 1) * 0.5 + 0.5 * 2) * 0.5 + 0.5 * 3
    assert results[case]["statistics"] == [0.5 + 3, 0.5 + steps]


def test_what_is_told_to_stop_says_nothing_of_its_half_score(results):
    assert results["fp32 1"]["stopped"] == [[], None, 1]


@pytest.fixture
def alone(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_score_counts_hits_and_averages_losses_over_all_but_padding(alone):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 9, generator=generator)
    labels = torch.randint(0, 9, (50,), generator=generator)
    labels[::7] = IGNORE_LABEL
    score = Score(torch.device("cpu"))
    for some in torch.arange(50).split(20):
        score.update(logits[some].bfloat16(), labels[some])
    event = score.compute(step=1, epoch=0, ema=False)
    kept = [i for i in range(50) if labels[i] != IGNORE_LABEL]
    rounded = logits.bfloat16().double()
    ranks = [(rounded[i] > rounded[i, labels[i]]).sum().item() for i in kept]
    assert event.count == len(kept) == 42
    assert event.top1 == pytest.approx(100 * sum(rank == 0 for rank in ranks) / 42)
    assert event.top5 == pytest.approx(100 * sum(rank < 5 for rank in ranks) / 42)
    # Losses of single images are computed in float32.
    assert event.loss == pytest.approx(
        F.cross_entropy(rounded[kept], labels[kept]).item(), rel=1e-6
    )


def test_a_loss_that_is_not_finite_is_not_written_as_a_number(alone):
    score = Score(torch.device("cpu"))
    score.update(torch.full((2, 3), float("nan")), torch.tensor([0, 1]))
    assert score.compute(step=1, epoch=0, ema=False).loss is None
