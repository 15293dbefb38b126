"""The simulation of many ranks finds what is wrong; docs/scale.md is made from its results."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.scale import page, ranks
from trainer.batch_plan import BatchPlan

PLAN = BatchPlan(per_gpu=2, accumulation=1, world_size=16)


def test_ranks_are_disjoint_equal_and_elastic():
    found = ranks.simulate(1000, PLAN)
    assert found["shares"]["images_of_a_rank"] == 1000 // 32 * 2
    assert found["shares"]["images_used"] == 1000 // 32 * 32
    assert found["elastic"]["ranks"] == [8, 4, 1]


def test_an_image_that_comes_twice_is_found():
    order = np.arange(1000)
    order[7] = 8
    with pytest.raises(AssertionError, match="an image came twice"):
        ranks.check_shares(ranks.Job(order=order, plan=PLAN))


def test_other_draws_for_one_image_of_a_step_are_found(monkeypatch):
    job = ranks.Job(order=np.arange(1000), plan=PLAN)
    honest = ranks.draw_digests

    def odd(samples):  # draws that depend on the size of the rank's batches
        return honest(samples) ^ np.uint64(len(samples) > 2 * 16)

    monkeypatch.setattr(ranks, "draw_digests", odd)
    with pytest.raises(AssertionError, match="has other draws"):
        ranks.check_elastic(job, [dataclasses.replace(PLAN, per_gpu=4, world_size=8)])


def test_the_page_is_made_from_the_committed_results():
    text = page.PAGE.read_text(encoding="utf-8")
    report = json.loads(page.RESULTS.read_text(encoding="utf-8"))
    assert page.page(text, report) == text
    assert "| core seconds |" in text
