"""Gradients that are not finite never reach the weights, at any ZeRO stage."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def results(forks):
    return forks.run_worker(Path(__file__).with_name("skip_worker.py"), 2, "01")


@pytest.mark.parametrize("stage", ["0", "1"])
def test_a_nan_in_one_gradient_of_one_rank_skips_the_step_on_all(results, stage):
    found = results[stage]
    assert found["losses_were_finite"]
    assert found["norms"] == [None, None]
    assert found["skipped"] == 2
    assert found["weights_stayed"]
    assert found["moments_stayed"]


@pytest.mark.parametrize("stage", ["0", "1"])
def test_training_goes_on_after_skipped_steps(results, stage):
    found = results[stage]
    assert found["went_on"]
    assert found["skipped_in_the_end"] == 0
    assert found["not_finite"] == []
