"""The training state, gathered and put back, continues bit for bit, at any stage and world size."""

from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("zero_state_worker.py")


@pytest.fixture(scope="module")
def two_ranks(forks):
    return forks.run_worker(WORKER, 2, "0123", "fp32", "adamw")


@pytest.fixture(scope="module")
def one_rank(forks):
    fp32 = forks.run_worker(WORKER, 1, "1", "fp32", "adamw")["adamw_1"]
    return forks.run_worker(WORKER, 1, "01", "bf16", "adamw") | {"fp32": fp32}


ELEMENTWISE = ("sgd", "adan", "laprop")
LAYERWISE = ("lamb", "muon", "adafactor")


@pytest.fixture(scope="module")
def optimizers(forks):
    elementwise = forks.run_worker(WORKER, 2, "01", "fp32", *ELEMENTWISE)
    return elementwise | forks.run_worker(WORKER, 1, "0", "fp32", *LAYERWISE)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_restored_engine_repeats_every_loss_and_norm(two_ranks, stage):
    result = two_ranks[f"adamw_{stage}"]
    assert result["resumed"] == result["whole"]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_restored_engine_ends_with_the_same_weights_moments_and_average(two_ranks, stage):
    assert two_ranks[f"adamw_{stage}"]["same_state"]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_average_swapped_in_computes_as_a_plain_model_with_its_weights(two_ranks, stage):
    assert two_ranks[f"adamw_{stage}"]["ema_forward_error"] == 0


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_buffers_that_are_not_saved_are_not_averaged(two_ranks, stage):
    assert two_ranks[f"adamw_{stage}"]["unsaved_buffer"] == 0.0  # of rank 0; rank 1 has 1.0


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_state_moves_from_stage_0_to_any_other(two_ranks, stage):
    # The stages sum gradient norms in another order, hence rounding only.
    expected = two_ranks["adamw_0"]["whole"][3:]
    for mine, theirs in zip(two_ranks[f"adamw_moved_to_{stage}"], expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


def test_the_loss_is_the_same_on_one_rank_and_two(one_rank, two_ranks):
    for mine, theirs in zip(one_rank["fp32"]["whole"], two_ranks["adamw_1"]["whole"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("stage", [0, 1])
def test_bf16_resumes_bit_for_bit_too(one_rank, stage):
    result = one_rank[f"adamw_{stage}"]
    assert result["resumed"] == result["whole"]
    assert result["same_state"]


@pytest.mark.parametrize(
    ("name", "stage"),
    [(name, stage) for name in ELEMENTWISE for stage in (0, 1)] + [(name, 0) for name in LAYERWISE],
)
def test_any_optimizer_goes_on_bit_for_bit(optimizers, name, stage):
    result = optimizers[f"{name}_{stage}"]
    assert result["resumed"] == result["whole"]
    assert result["same_state"]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_any_elementwise_optimizer_computes_the_same_on_zero_s_shards(optimizers, name):
    pairs = zip(optimizers[f"{name}_1"]["whole"], optimizers[f"{name}_0"]["whole"], strict=True)
    for sharded, whole in pairs:
        assert sharded == pytest.approx(whole, rel=1e-4)
